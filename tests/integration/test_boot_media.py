"""Media of the boot image: the same bytes twice, read by other programs, booted by firmware.

Each boot is one way for firmware to find the kernel; the process that then runs is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.machine.model import RunConfig
from scripts.soaks.tinykernel import built_elsewhere, differences
from tests.guests import media
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.integration import warm
from tinykernel.media.record import Kind, Media, load_media
from tinykernel.record import BootImage, load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]

PROGRAMS = ("xorriso", "mkfs.fat", "mcopy", "sfdisk", "qemu-img", "qemu-system-x86_64", "mke2fs")
KINDS = [f"--media={kind.value}" for kind in Kind]
SAYS = b"by firmware\n"


@dataclass(frozen=True)
class Built:
    """A store of its own with a boot image and what was made of it."""

    store: Path
    image: BootImage

    @property
    def media(self) -> Media:
        loaded = load_media(self.image)
        assert loaded is not None
        return loaded

    def path(self, kind: Kind) -> Path:
        return next(medium.path for medium in self.media.media if medium.kind is kind)


def boot_build(store: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["boot", "build", "--format=json", "--store", os.fspath(store), *arguments]
    return warm.COMMANDS.run(command, stdin=b"", environment={**os.environ}, timeout_seconds=600)


def build(boot_store: Path, folder: Path, *arguments: str) -> Built:
    store = folder / "store"
    shutil.copytree(boot_store, store)
    done = boot_build(store, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return Built(store, load_boot_image(Path(json.loads(done.stdout)["folder"])))


@pytest.fixture(scope="module")
def built(
    tool: Callable[[str], str], boot_media_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    for name in PROGRAMS:
        tool(name)
    return build(boot_media_store, tmp_path_factory.mktemp("media"), *KINDS)


def test_the_same_bytes_in_another_environment(boot_media_store: Path, tmp_path: Path) -> None:
    """Of the whole boot image and its media; `scripts/soak tinykernel` does it with a kernel."""
    (record,) = (boot_media_store / "boot").glob("*/boot.json")
    other = built_elsewhere(tmp_path, "stock", boot_media_store / "cache/packages")
    assert list(differences(record.parent, other)) == []
    assert {path.name for path in other.iterdir()} > {"boot.spdx.json", "contents.json", "media"}
    # And differences are told.
    (other / "initrd").write_bytes(b"")
    (other / "media/boot.iso").unlink()
    assert list(differences(record.parent, other)) == [
        "initrd has other bytes in another build",
        "media/boot.iso is in one of two builds",
    ]


def test_nothing_is_made_anew_that_is_there(built: Built) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in built.path(Kind.ISO).parent.iterdir()}
    done = boot_build(built.store, "--media=iso")
    assert json.loads(done.stdout)["media"][0]["kind"] == "iso"
    after = {path.name: path.stat().st_mtime_ns for path in built.path(Kind.ISO).parent.iterdir()}
    assert after == before


def test_sizes(built: Built) -> None:
    payload = built.image.kernel.stat().st_size + built.image.initrd.stat().st_size
    sizes = {medium.kind: medium.size_bytes for medium in built.media.media}
    assert sizes[Kind.ISO] <= 2.1 * payload
    assert sizes[Kind.VMDK] <= 1.1 * payload
    assert sizes[Kind.STREAM] < sizes[Kind.VMDK]


def test_other_programs_read_them(built: Built, tool: Callable[[str], str], tmp_path: Path) -> None:
    both = [built.path(Kind.STREAM), built.path(Kind.VMDK)]
    subprocess.run([tool("qemu-img"), "compare", *both], check=True, timeout=60)
    raw = tmp_path / "raw"
    subprocess.run([tool("qemu-img"), "convert", "-O", "raw", both[0], raw], check=True)
    told = subprocess.run([tool("sfdisk"), "--json", raw], check=True, capture_output=True)
    (partition,) = json.loads(told.stdout)["partitiontable"]["partitions"]
    assert partition["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    assert (
        b"No errors"
        in subprocess.run([tool("sfdisk"), "--verify", raw], check=True, capture_output=True).stdout
    )
    found = tmp_path / "found.efi"
    where = f"{raw}@@{partition['start'] * 512}"
    subprocess.run([tool("mcopy"), "-i", where, "::/EFI/BOOT/BOOTX64.EFI", found], check=True)
    assert found.read_bytes() == built.path(Kind.UKI).read_bytes()
    for section, path in ((".linux", built.image.kernel), (".initrd", built.image.initrd)):
        cut = tmp_path / section
        command = [tool("objcopy"), "-O", "binary", f"--only-section={section}", found, cut]
        subprocess.run(command, check=True)
        assert cut.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(lambda built: media.compact_disc(built.path(Kind.ISO)), id="iso-bios"),
        pytest.param(
            lambda built: [*media.efi(), *media.compact_disc(built.path(Kind.ISO))], id="iso-efi"
        ),
        pytest.param(
            lambda built: [*media.efi(), *media.boot_disk(built.path(Kind.STREAM))], id="disk-efi"
        ),
    ],
)
def test_firmware_boots(
    way: Callable[[Built], list[str]], built: Built, link: Path, tmp_path: Path
) -> None:
    assert boots(way(built), link, tmp_path) == (0, SAYS)


def test_secure_boot_takes_what_is_signed_and_nothing_else(
    built: Built, link: Path, boot_store: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """With the key whose certificate Debian's firmware for tests trusts."""
    sbsign = tool("sbsign")
    keys = Path("/usr/share/ovmf")
    key = tmp_path / "key.pem"
    command = [tool("openssl"), "rsa", "-passin", "pass:snakeoil", "-out", key]
    subprocess.run([*command, "-in", keys / "PkKek-1-snakeoil.key"], check=True)
    certificate = keys / "PkKek-1-snakeoil.pem"
    signing = f"{sbsign} --key {key} --cert {certificate} --output {{out}} {{in}}"
    wanted = ["--media=iso", "--media=uki", f"--sign-cmd={signing}"]
    signed = build(boot_store, tmp_path, *wanted)
    assert signed.media.signed
    verified = [tool("sbverify"), "--cert", certificate, signed.path(Kind.UKI)]
    subprocess.run(verified, check=True)
    (tmp_path / "good").mkdir()
    disc = media.compact_disc(signed.path(Kind.ISO))
    arguments = [*media.secure_efi(tmp_path), *disc]  # which needs more memory for itself
    assert boots(arguments, link, tmp_path / "good", memory_mib=1024) == (0, SAYS)
    (tmp_path / "bad").mkdir()
    disc = media.compact_disc(built.path(Kind.ISO))

    def change(given: list[str]) -> list[str]:
        first_port = [
            f"file,id=nothing,path={said.name}" if word == "null,id=nothing" else word
            for word in media.without_kernel(given)
        ]
        return [*first_port, *media.secure_efi(tmp_path), *disc]

    said = Path("firmware.log")
    with booted(tmp_path / "bad", link, RunConfig(), change=change) as machine:
        deadline = time.monotonic() + BOOT_SECONDS
        while b"Access Denied" not in (log := _read(machine.folder / said)):
            assert time.monotonic() < deadline, log
            time.sleep(0.05)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def boots(
    arguments: list[str], link: Path, work: Path, *, memory_mib: int = 256
) -> tuple[int | None, bytes]:
    """Boot with these arguments and no kernel; return the process's exit code and output."""
    run = RunConfig(entrypoint=("/bin/sh", "-c"), args=(f"echo {SAYS.decode().strip()}",))

    def change(given: list[str]) -> list[str]:
        return [*media.without_kernel(given), *arguments]

    with (
        booted(work, link, run, change=change, memory_mib=memory_mib) as machine,
        served(machine) as host,
    ):
        main = host.processes[0]
        host.wait(lambda: main.code is not None, BOOT_SECONDS)
        return main.code, main.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--append=quiet"], "none was asked for"),
        (["--media=uki", "--append=a\nb"], "printable ASCII on one line"),
        (["--media=uki", "--append=\xe9"], "printable ASCII on one line"),
        (["--media=uki", "--append=" + "x" * 2000], "fewer than 2048 bytes"),
        (["--media=uki", "--sign-cmd=true"], "does not say where the files go"),
        (["--media=uki", "--sign-cmd=false {in} {out}"], "failed with exit code 1"),
        (["--media=uki", "--sign-cmd=true {in} {out}"], "is no EFI executable"),
        (["--media=uki", "--sign-cmd=/nonexistent {in} {out}"], "is not installed"),
    ],
)
def test_what_cannot_be_leaves_the_media_as_they_were(
    built: Built, arguments: list[str], said: str
) -> None:
    before = built.media.encode()
    done = boot_build(built.store, *arguments)
    assert done.returncode != 0
    assert said in done.stderr.decode()
    assert built.media.encode() == before


def test_media_of_other_inputs_do_not_stay_without_a_record(
    boot_store: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """What signs here signs nothing, but the media are others all the same."""
    copies = f"--sign-cmd={tool('cp')} {{in}} {{out}}"

    def made(*arguments: str) -> set[str]:
        done = boot_build(store, "--signed-modules", *arguments)
        assert done.returncode == 0, done.stderr.decode()
        folder = Path(json.loads(done.stdout)["folder"])
        media = load_media(load_boot_image(folder))
        assert media is not None
        names = {path.name for path in (folder / "media").iterdir()}
        assert {medium.path.name for medium in media.media} == names - {"media.json"}
        return names - {"media.json"}

    store = tmp_path / "store"
    shutil.copytree(boot_store, store)
    assert made("--media=uki", "--media=vmdk") == {"boot.efi", "boot.vmdk"}
    assert made("--media=uki", copies) == {"boot.efi"}
    assert made("--media=vmdk") == {"boot.vmdk"}


def test_without_a_program_the_package_is_named(built: Built, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-config", "dpkg-deb", "tar"):
        if (found := shutil.which(name)) is not None:
            (programs / name).symlink_to(found)
    code = (
        "import sys\n"
        "from tinykernel.media import programs\n"
        "programs._SYSTEM_PATH = ''\n"
        "from converter.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "boot", "build", "--store", built.store]
    command += ["--media=iso", "--append=another"]
    environment = {**os.environ, "PATH": str(programs)}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode == 3
    assert b"apt-get install dosfstools" in done.stderr
