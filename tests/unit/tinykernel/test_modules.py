"""Choosing drivers: dependencies first, built-in ones left out, signatures dropped."""

from __future__ import annotations

import lzma
import struct

import pytest
import zstandard

from converter.errors import IntegrityError
from tinykernel.modules import (
    SIGNATURE_MAGIC,
    choose_modules,
    module_name,
    without_signature,
)


@pytest.fixture
def kernel(elf_with_section):
    """Return a function: {name: depends} and built-in names -> arguments for choose_modules."""

    def make(depends: dict[str, str], builtin: tuple[str, ...] = (), suffix: str = ".ko"):
        def content(path: str) -> bytes:
            name = path.rpartition("/")[2].partition(".")[0]
            module = elf_with_section(
                ".modinfo", f"license=GPL\0depends={depends[name]}\0".encode()
            )
            if suffix == ".ko.xz":
                return lzma.compress(module)
            if suffix == ".ko.zst":
                return zstandard.compress(module)
            return module

        return {
            "paths": [f"usr/lib/modules/6.1/kernel/drivers/{name}{suffix}" for name in depends]
            + ["usr/lib/modules/6.1/modules.order"],
            "builtin": [f"kernel/drivers/{name}.ko" for name in builtin],
            "read": content,
        }

    return make


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.zst"])
def test_dependencies_come_first_each_once(kernel, suffix: str) -> None:
    tree = kernel(
        {
            "sd-mod": "scsi-mod,scsi-common",
            "scsi-mod": "scsi-common",
            "scsi-common": "",
            "vmw_pvscsi": "scsi-mod",
            "other": "",
        },
        suffix=suffix,
    )

    chosen = choose_modules(["vmw_pvscsi", "sd_mod"], **tree)

    assert {module.name: module.depends for module in chosen} == {
        "scsi_common": (),
        "scsi_mod": ("scsi_common",),
        "sd_mod": ("scsi_common", "scsi_mod"),
        "vmw_pvscsi": ("scsi_common", "scsi_mod"),
    }
    assert all(module.data.startswith(b"\x7fELF") for module in chosen)


def test_order_of_wishes_does_not_matter(kernel) -> None:
    tree = kernel({"a": "c", "b": "c", "c": ""})
    assert choose_modules(["a", "b"], **tree) == choose_modules(["b", "a"], **tree)


def test_built_in_drivers_are_left_out_also_as_dependencies(kernel) -> None:
    tree = kernel({"virtio_console": "virtio"}, builtin=("virtio", "ext4"))
    chosen = choose_modules(["ext4", "virtio_console"], **tree)
    assert [(module.name, module.depends) for module in chosen] == [("virtio_console", ())]


def test_what_should_be_loaded_before_is_a_dependency(elf_with_section) -> None:
    contents = {
        "ext4": b"depends=jbd2\0softdep=pre: crypto-crc32c post: later\0",
        "jbd2": b"depends=\0",
        "crc32c_generic": b"depends=\0",
        "later": b"depends=\0",
    }
    chosen = choose_modules(
        ["ext4"],
        paths=[f"x/kernel/{name}.ko" for name in contents],
        builtin=(),
        read=lambda path: elf_with_section(".modinfo", contents[module_name(path)]),
    )
    assert {module.name: module.depends for module in chosen} == {
        "crc32c_generic": (),
        "ext4": ("jbd2", "crc32c_generic"),
        "jbd2": (),
    }


def test_missing_driver_is_named(kernel) -> None:
    with pytest.raises(IntegrityError, match="no driver vmxnet3"):
        choose_modules(["vmxnet3"], **kernel({"a": ""}))


def test_missing_dependency_is_named(kernel) -> None:
    with pytest.raises(IntegrityError, match="no driver gone"):
        choose_modules(["a"], **kernel({"a": "gone"}))


def test_loop_of_dependencies_is_refused(kernel) -> None:
    with pytest.raises(IntegrityError, match="depend on each other: a b a"):
        choose_modules(["a"], **kernel({"a": "b", "b": "a"}))


def test_damaged_compression_is_refused(kernel) -> None:
    tree = kernel({"a": ""}, suffix=".ko.xz")
    tree["read"] = lambda _path: lzma.compress(b"x" * 100)[:-20]
    with pytest.raises(IntegrityError, match="cut short"):
        choose_modules(["a"], **tree)


def test_kernel_names_use_underscores() -> None:
    assert module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng"


def test_appended_signature_is_dropped() -> None:
    signature = b"PKCS7" * 100
    trailer = struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, len(signature))
    assert without_signature(b"module" + signature + trailer + SIGNATURE_MAGIC) == b"module"
    assert without_signature(b"unsigned module") == b"unsigned module"


def test_signature_longer_than_the_module_is_refused() -> None:
    trailer = struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 5000)
    with pytest.raises(IntegrityError, match="signature is longer"):
        without_signature(b"module" + trailer + SIGNATURE_MAGIC)
