"""From a user's word to a kernel; a kernel of the user's own: read, checked, with its modules."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.events import Event, Note
from tests.images.kernels import kernel_file
from tinykernel.kernel.bzimage import kernel_version, unpacked_kernel
from tinykernel.kernel.choice import choose_kernel
from tinykernel.kernel.given import GivenKernel
from tinykernel.kernel.needs import NEEDS, check_needs, embedded_config
from tinykernel.kernel.tiny import TinyKernel

GOOD = "".join(f"{name}=y\n" for name, _why in NEEDS).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "none": bytes,
}


def made(kernel: GivenKernel) -> tuple[Any, list[Event]]:
    seen: list[Event] = []
    found = kernel.make(None, scratch_dir=Path("/nowhere"), monitor=seen.append)  # type: ignore[arg-type]  # it needs none
    return found, seen


@pytest.mark.parametrize("packer", list(PACKERS))
def test_the_kernel_inside_comes_out_of_every_compression(packer: str) -> None:
    image = kernel_file(GOOD, PACKERS[packer])
    unpacked = unpacked_kernel(image, "vmlinuz")
    assert unpacked is not None
    assert embedded_config(unpacked) == GOOD
    assert kernel_version(image, "vmlinuz") == "6.1.0-test"


def test_an_unknown_compression_is_not_looked_into() -> None:
    assert unpacked_kernel(kernel_file(GOOD, lambda data: b"\x02\x21\x4c\x18" + data), "v") is None


@pytest.mark.parametrize("data", [b"", b"MZ" + bytes(1000), kernel_file(None)[:0x210]])
def test_what_is_no_kernel_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="is no kernel for x86"):
        kernel_version(data, "vmlinuz")


def test_a_damaged_kernel_is_refused() -> None:
    image = bytearray(kernel_file(GOOD))
    at = image.index(b"\x1f\x8b")
    image[at + 20 : at + 60] = bytes(40)
    with pytest.raises(IntegrityError, match="damaged"):
        unpacked_kernel(bytes(image), "vmlinuz")


@pytest.mark.parametrize("line", [b"", b"# CONFIG_RD_ZSTD is not set\n", b"CONFIG_RD_ZSTD=m\n"])
def test_a_kernel_that_cannot_start_us_says_what_it_lacks(line: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"without CONFIG_RD_ZSTD \(its compression\)$"):
        check_needs(GOOD.replace(b"CONFIG_RD_ZSTD=y\n", line), "vmlinuz")


def test_a_given_kernel_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernel_file(GOOD))

    kernel, seen = made(GivenKernel(path))

    assert (kernel.flavour, kernel.package, kernel.version) == ("given", "", "6.1.0-test")
    assert (kernel.image, kernel.modules, kernel.packages) == (path.read_bytes(), (), ())
    assert seen == []


def test_a_given_kernel_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernel_file(GOOD.replace(b"CONFIG_CGROUPS=y", b"")))
    with pytest.raises(IntegrityError, match="CONFIG_CGROUPS"):
        made(GivenKernel(path))


def test_one_that_cannot_be_asked_is_taken_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernel_file(None))
    _kernel, seen = made(GivenKernel(path))
    assert [type(event) for event in seen] == [Note]


def test_modules_of_a_given_kernel_keep_their_signatures(
    tmp_path: Path, elf_with_section: Callable[[str, bytes], bytes]
) -> None:
    path, folder = tmp_path / "vmlinuz", tmp_path / "modules"
    path.write_bytes(kernel_file(GOOD))
    (folder / "kernel/drivers").mkdir(parents=True)
    signature = bytes(10) + (10).to_bytes(12, "big") + b"~Module signature appended~\n"
    module = elf_with_section(".modinfo", b"depends=\0") + signature
    (folder / "kernel/drivers/ahci.ko").write_bytes(module)
    (folder / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")

    kernel, seen = made(GivenKernel(path, folder))

    assert [(m.name, m.data) for m in kernel.modules] == [("ahci", module)]
    (warning,) = seen
    assert isinstance(warning, Note)
    assert warning.warning
    assert "nvme" in warning.text
    assert "ext4" not in warning.text
    assert GivenKernel(path, folder).identity() != GivenKernel(path).identity()


def test_a_folder_of_no_modules_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernel_file(GOOD))
    with pytest.raises(UsageError, match=r"has no modules\.builtin"):
        made(GivenKernel(path, tmp_path))


def test_words_and_paths() -> None:
    assert choose_kernel("stock").flavour == "stock"
    assert choose_kernel("generic").flavour == "generic"
    assert (
        choose_kernel("stock").identity() != choose_kernel("stock", signed_modules=True).identity()
    )
    assert choose_kernel("tiny") == TinyKernel()
    assert choose_kernel("./vmlinuz") == GivenKernel(Path("vmlinuz"))


def test_a_word_that_is_no_kernel_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no kernel 'vmlinuz'"):
        choose_kernel("vmlinuz")


def test_only_a_given_kernel_takes_modules(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no --modules"):
        choose_kernel("stock", tmp_path)


def test_a_kernel_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read"):
        choose_kernel(str(tmp_path / "gone")).identity()
