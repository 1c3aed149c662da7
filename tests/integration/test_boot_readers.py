"""What `boot verify` reads boot images with: other programs read the same, damage is one error."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from tests.images.boot_media import disk_of
from tinykernel.contents import decode_contents
from tinykernel.media.record import Kind
from tinykernel.verify.executable import Executable
from tinykernel.verify.fat import read_fat_file
from tinykernel.verify.gpt import read_system_partition
from tinykernel.verify.iso9660 import read_boot_entries, read_iso_file

pytestmark = pytest.mark.integration

Tool = Callable[[str], str]
LOADER = ("EFI", "BOOT", "BOOTX64.EFI")


@pytest.fixture(scope="module")
def sound(boot_media_store: Path) -> Path:
    (record,) = (boot_media_store / "boot").glob("*/boot.json")
    return record.parent


def read(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def test_bsdtar_reads_the_initramfs_as_it_is_listed(
    sound: Path, tool: Tool, tmp_path: Path
) -> None:
    subprocess.run(
        [tool("bsdtar"), "--no-same-owner", "-xpf", sound / "initrd"],
        cwd=tmp_path,
        check=True,
    )
    found = {}
    for path in tmp_path.rglob("*"):
        mode = path.lstat().st_mode
        data = path.read_bytes() if stat.S_ISREG(mode) else b""
        digest = hashlib.sha256(data).hexdigest() if stat.S_ISREG(mode) else None
        target = str(path.readlink()) if stat.S_ISLNK(mode) else None
        found[str(path.relative_to(tmp_path))] = (mode, len(data), digest, target)
    listed = decode_contents(read(sound, "contents.json"))
    assert found == {c.path: (c.mode, c.size_bytes, c.sha256, c.target) for c in listed}


def test_objcopy_reads_the_sections(sound: Path, tool: Tool, tmp_path: Path) -> None:
    efi = sound / "media/boot.efi"
    sections = Executable.read(efi.read_bytes()).sections()
    assert {".linux", ".initrd", ".cmdline", ".uname", ".osrel", ".text"} <= sections.keys()
    for name in (".linux", ".initrd", ".cmdline", ".uname", ".osrel"):
        cut = tmp_path / name
        subprocess.run([tool("objcopy"), "-O", "binary", f"-j{name}", efi, cut], check=True)
        assert cut.read_bytes() == sections[name]


def test_xorriso_and_mtools_read_the_iso(sound: Path, tool: Tool, tmp_path: Path) -> None:
    iso = sound / "media/boot.iso"
    data = iso.read_bytes()
    command = [tool("osirrox"), "-indev", iso, "-extract", "/", tmp_path / "iso"]
    subprocess.run(command, check=True, capture_output=True)
    for path in (tmp_path / "iso").rglob("*"):
        name = path.relative_to(tmp_path / "iso").parts
        # The boot catalog and what xorriso puts into isolinux.bin are as they are on the disc.
        if path.is_file():
            assert read_iso_file(data, name).content == path.read_bytes(), name
    efi = tmp_path / "found.efi"
    partition = tmp_path / "iso/EFI.IMG"
    subprocess.run([tool("mcopy"), "-i", partition, "::/" + "/".join(LOADER), efi], check=True)
    assert read_fat_file(partition.read_bytes(), LOADER) == efi.read_bytes()
    report = [tool("xorriso"), "-indev", iso, "-report_el_torito", "plain"]
    told = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    entries = read_boot_entries(data)
    for firmware, sector in (("BIOS", entries.bios), ("UEFI", entries.efi)):
        line = next(
            x for x in told.splitlines() if x.startswith("El Torito boot img") and firmware in x
        )
        assert int(line.split()[-1]) == sector


def test_qemu_img_reads_the_disks(sound: Path, tool: Tool, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for kind in (Kind.VMDK, Kind.STREAM):
        path = sound / "media" / kind.file_name
        subprocess.run([tool("qemu-img"), "convert", "-O", "raw", path, raw], check=True)
        assert disk_of(path) == raw.read_bytes()
    told = subprocess.run([tool("sfdisk"), "--json", raw], check=True, capture_output=True).stdout
    (partition,) = json.loads(told)["partitiontable"]["partitions"]
    begin, size = partition["start"] * 512, partition["size"] * 512
    assert read_system_partition(raw.read_bytes()) == raw.read_bytes()[begin : begin + size]


@pytest.mark.parametrize("size_kib", [200, 9000, 40000], ids=["FAT12", "FAT16", "FAT32"])
def test_mtools_writes_what_is_read(size_kib: int, tool: Tool, tmp_path: Path) -> None:
    """Also a file whose clusters are not in a row."""
    image = tmp_path / "image"
    options = ["-F", "32", "-s", "1"] if size_kib == 40000 else []
    make = [tool("mkfs.fat"), *options, "-C", image, str(size_kib)]
    subprocess.run(make, check=True, capture_output=True)
    content = random.Random(1).randbytes(50_000)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(content[:20_000])
    second.write_bytes(content)
    with_image = ["-i", image]
    subprocess.run([tool("mmd"), *with_image, "::/DIR"], check=True)
    for source, name in ((first, "A.BIN"), (first, "B.BIN"), (first, "C")):
        subprocess.run([tool("mcopy"), *with_image, source, f"::/DIR/{name}"], check=True)
    for name in ("A.BIN", "C"):
        subprocess.run([tool("mdel"), *with_image, f"::/DIR/{name}"], check=True)
    subprocess.run([tool("mcopy"), *with_image, second, "::/DIR/BIG.BIN"], check=True)
    data = image.read_bytes()
    assert read_fat_file(data, ("DIR", "BIG.BIN")) == content
    assert read_fat_file(data, ("DIR", "B.BIN")) == content[:20_000]
    for path in (("DIR",), ("DIR", "C"), ("BIG.BIN",), ("DIR", "B.BIN", "X")):
        with pytest.raises(IntegrityError, match="has no"):
            read_fat_file(data, path)
    _survives(data[: 64 << 10], lambda changed: read_fat_file(changed, ("DIR", "BIG.BIN")))
    _survives(
        data,
        lambda changed: read_fat_file(changed, ("DIR", "BIG.BIN")),
        count=60 if size_kib == 200 else 8,
    )


def test_hostile_media_are_errors_and_nothing_else(sound: Path, tool: Tool, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "ISOLINUX").mkdir(parents=True)
    for name in ("ISOLINUX/ISOLINUX.BIN", "EFI.IMG"):
        (tree / name).write_bytes(bytes(4096))
    command = [tool("xorriso"), "-as", "mkisofs", "-quiet", "-iso-level", "1", "-no-pad"]
    command += ["-b", "ISOLINUX/ISOLINUX.BIN", "-c", "ISOLINUX/BOOT.CAT", "-no-emul-boot"]
    command += ["-eltorito-alt-boot", "-e", "EFI.IMG", "-no-emul-boot", "-o", "iso", "tree"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    iso = (tmp_path / "iso").read_bytes()
    assert read_boot_entries(iso).efi == read_iso_file(iso, ("EFI.IMG",)).sector
    _survives(iso, lambda data: read_iso_file(data, ("ISOLINUX", "ISOLINUX.BIN")), count=400)
    _survives(iso, read_boot_entries, count=400)
    front = disk_of(sound / "media/boot.vmdk")[: 1 << 15]
    _survives(front, read_system_partition, count=400)
    efi = read(sound, "media/boot.efi")[: 1 << 16]
    _survives(efi, lambda data: Executable.read(data).sections(), count=400)
    _survives(efi, lambda data: Executable.read(data).signature_fault(), count=100)


def _survives(data: bytes, read: Callable[[bytes], object], *, count: int = 100) -> None:
    """Read what is changed in one to three places, most of them near the front, or cut short."""
    chance = random.Random(7)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = int(len(data) * chance.random() ** 3)
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del changed[int(len(data) * chance.random() ** 2) :]
        with contextlib.suppress(IntegrityError):
            read(bytes(changed))
