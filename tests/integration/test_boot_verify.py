"""`boot verify`: a sound image passes, and each fault in it is named.

Most faults come with records that were corrected, as by a builder that went wrong: then it is the
content that tells, not a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from converter.events import ignore
from tests.images.boot_media import disk_of, streamed
from tests.integration.conftest import Saltflat
from tinykernel.archives import read_initramfs
from tinykernel.cpio import ArchiveEntry, regular, write_newc
from tinykernel.media.record import Kind
from tinykernel.record import BootImage, encode_record, load_boot_image
from tinykernel.verify.findings import Check, Fault
from tinykernel.verify.image import verify_boot_image
from tinykernel.verify.iso9660 import read_boot_entries, read_iso_file

pytestmark = pytest.mark.integration

Tool = Callable[[str], str]
FILES = ["vmlinuz", "initrd", "contents.json", "boot.spdx.json"]
MEDIA = [f"media/{kind.file_name}" for kind in Kind]


@dataclass(frozen=True)
class Copy:
    """A boot image's folder with hard links to a sound one's files; what is changed is replaced."""

    folder: Path

    @property
    def image(self) -> BootImage:
        return load_boot_image(self.folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def change_json(self, name: str, change: Callable[[Any], object]) -> None:
        document = json.loads(self.read(name))
        change(document)
        self.write(name, json.dumps(document, indent=2).encode() + b"\n")

    def write_medium(self, kind: Kind, data: bytes) -> None:
        """Change a medium, and media.json with it."""
        self.write(f"media/{kind.file_name}", data)

        def correct(document: Any) -> None:
            for entry in document["media"]:
                if entry["kind"] == kind.value:
                    entry["sha256"] = hashlib.sha256(data).hexdigest()
                    entry["size_bytes"] = len(data)

        self.change_json("media/media.json", correct)

    def write_initramfs(self, change: Callable[[dict[str, ArchiveEntry]], object]) -> None:
        """Change what is in the initramfs, and boot.json with it."""
        image = self.image
        entries = {entry.path: entry for entry in read_initramfs(self.read("initrd"))}
        change(entries)
        data = zstandard.compress(b"".join(write_newc(entries.values())))
        self.write("initrd", data)
        changed = replace(image, initrd_sha256=hashlib.sha256(data).hexdigest())
        self.write("boot.json", encode_record(changed))

    def faults(self) -> list[str]:
        found = list(verify_boot_image(self.folder, monitor=ignore))
        return [f"{fault.subject}: {fault.what}" for fault in found if isinstance(fault, Fault)]


@pytest.fixture(scope="module")
def sound(boot_media_store: Path) -> Copy:
    (record,) = (boot_media_store / "boot").glob("*/boot.json")
    return Copy(record.parent)


@pytest.fixture
def copy(sound: Copy, tmp_path: Path) -> Copy:
    folder = tmp_path / sound.folder.name
    shutil.copytree(sound.folder, folder, copy_function=os.link)
    return Copy(folder)


# A sound image


def test_a_sound_image_passes(sound: Copy) -> None:
    found = list(verify_boot_image(sound.folder, monitor=ignore))
    subjects = [check.subject for check in found if isinstance(check, Check)]
    assert len(subjects) == len(found), found
    assert subjects == [
        "boot.json",
        *FILES,
        "kernel",
        "initramfs",
        "bill of materials",
        "media/media.json",
        *MEDIA,
    ]


def test_the_command_says_so_and_writes_nothing(sound: Copy, saltflat: Saltflat) -> None:
    store = sound.folder.parents[1]

    def look() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in sound.folder.rglob("*")
        }

    before = look()
    text = saltflat.good("boot", "verify", "--store", store).decode()
    assert "initramfs: " in text
    assert text.endswith(": 0 faults\n")
    named = ("boot", "verify", "--store", store, "--format", "json")
    told = json.loads(saltflat.good(*named, sound.folder.name[:8]))
    assert told == json.loads(saltflat.good(*named, "stock"))
    assert told["faults"] == []
    assert {check["subject"] for check in told["checks"]} >= {*FILES, *MEDIA}
    sizes = {part["part"]: part["size_bytes"] for part in told["parts"]}
    assert sizes["interpreter"] > sizes["tether"] > 0 < sizes["standard library"]
    alone = json.loads(saltflat.good("boot", "verify", "--format", "json", f"{sound.folder}/"))
    assert alone["checks"] == told["checks"]
    listed = json.loads(
        saltflat.good("boot", "list", "--long", "--store", store, "--format", "json")
    )
    assert listed["boot_images"][0]["parts"] == told["parts"]
    assert look() == before


def test_the_command_names_faults_and_what_is_not_there(
    copy: Copy, saltflat: Saltflat, tmp_path: Path
) -> None:
    copy.write("initrd", b"damaged")
    (copy.folder / "media/boot.iso").unlink()
    done = saltflat("boot", "verify", "--format", "json", copy.folder)
    assert done.returncode == 5
    faults = json.loads(done.stdout)["faults"]
    assert {fault["subject"] for fault in faults} == {"initrd", "media/boot.iso", "boot.spdx.json"}
    assert all(fault["hint"] for fault in faults)
    done = saltflat("boot", "verify", f"{copy.folder}/")
    assert done.returncode == 5
    assert b"media/boot.iso: it cannot be read: No such file or directory\n" in done.stdout
    for name in ("nothing", "./nothing", "ffff"):
        assert saltflat("boot", "verify", "--store", tmp_path / "empty", name).returncode == 3


def test_an_image_from_before_the_lists_passes(copy: Copy) -> None:
    for name in ("contents.json", "boot.spdx.json"):
        (copy.folder / name).unlink()

    def forget(document: dict[str, object]) -> None:
        del document["contents"], document["sbom"]

    copy.change_json("boot.json", forget)
    assert copy.image.contents_sha256 is None
    assert copy.faults() == []


# One fault at a time


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name in FILES for place in (0.0, 0.37, 1.0)]
    + [(name, place) for name, place in zip(MEDIA, (0.0, 0.37, 0.7, 1.0), strict=True)],
)
def test_a_flipped_bit_is_found(copy: Copy, name: str, place: float) -> None:
    if name in FILES:
        shutil.rmtree(copy.folder / "media")  # which would only take time
    data = bytearray(copy.read(name))
    at = int((len(data) - 1) * place)
    data[at] ^= 4
    copy.write(name, bytes(data))
    assert any(fault.startswith(f"{name}: ") and "sha256" in fault for fault in copy.faults())


@pytest.mark.parametrize("name", ["boot.json", "media/media.json"])
def test_a_flipped_bit_in_a_record_is_found(copy: Copy, name: str) -> None:
    if name == "boot.json":
        shutil.rmtree(copy.folder / "media")
    data = copy.read(name)
    # What the media were made from is not at hand, so nothing can be said of this one hash.
    found = re.search(rb'"inputs": "\w+"', data)
    unknown = range(*found.span()) if found else range(0)
    chance = random.Random(3)
    for at in chance.sample([at for at in range(len(data)) if at not in unknown], 8):
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(7)
        copy.write(name, bytes(changed))
        assert copy.faults(), changed
    copy.write(name, data)
    assert copy.faults() == []


def change_bytes(data: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert data.count(old) >= 1
    return data.replace(old, new)


def flipped(data: bytes, part: bytes) -> bytes:
    """Return `data` with a bit changed inside of its every copy of `part`, 64 bytes."""
    assert part in data
    return data.replace(part, part[:20] + bytes([part[20] ^ 1]) + part[21:])


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("name", ["vmlinuz", "initrd"])
def test_another_kernel_or_initramfs_in_a_medium_is_found(
    copy: Copy, kind: Kind, name: str
) -> None:
    payload = copy.read(name)
    part = payload[len(payload) // 2 :][:64]
    data = copy.read(f"media/{kind.file_name}")
    if kind is Kind.STREAM:
        data = streamed(flipped(disk_of(copy.folder / "media/boot-stream.vmdk"), part))
    else:
        data = flipped(data, part)
    copy.write_medium(kind, data)
    what = "kernel" if name == "vmlinuz" else "initramfs"
    faults = copy.faults()
    subject = f"media/{kind.file_name}"
    assert f"{subject}: the {what} in its EFI executable is not the image's" in faults
    if kind is Kind.ISO:
        assert f"{subject}: the {what} for BIOS machines is not the image's" in faults
    assert len(faults) == (2 if kind is Kind.ISO else 1)


def test_another_command_line_is_found(copy: Copy) -> None:
    data = copy.read("media/boot.iso")
    copy.write_medium(Kind.ISO, change_bytes(data, b"panic=-1", b"panic=99"))
    faults = copy.faults()
    assert len(faults) == 2
    assert all("command line" in fault and "panic" in fault for fault in faults)


def test_another_start_of_the_disc_is_found(copy: Copy) -> None:
    data = copy.read("media/boot.iso")
    sector = read_boot_entries(data).efi
    assert sector is not None
    catalog = read_iso_file(data, ("ISOLINUX", "BOOT.CAT"))
    old = sector.to_bytes(4, "little")
    table = catalog.content.replace(old, (sector + 1).to_bytes(4, "little"))
    at = catalog.sector * 2048
    copy.write_medium(Kind.ISO, data[:at] + table + data[at + len(table) :])
    assert copy.faults() == ["media/boot.iso: EFI firmware would not start EFI.IMG"]


def test_a_signature_is_of_these_bytes(copy: Copy, tool: Tool, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t"]
    command += ["-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    signed = tmp_path / "signed"
    sign = [tool("sbsign"), "--key", key, "--cert", certificate, "--output", signed]
    subprocess.run([*sign, copy.folder / "media/boot.efi"], check=True, capture_output=True)
    data = signed.read_bytes()

    def sbverify_accepts() -> bool:
        check = [tool("sbverify"), "--cert", certificate, copy.folder / "media/boot.efi"]
        return subprocess.run(check, capture_output=True, check=False).returncode == 0

    def only_signed_uki(document: Any) -> None:
        document["signed"] = True
        document["media"] = document["media"][:1]

    copy.change_json("media/media.json", only_signed_uki)
    for kind in (Kind.ISO, Kind.VMDK, Kind.STREAM):
        (copy.folder / "media" / kind.file_name).unlink()
    unsigned = copy.faults()
    assert unsigned == ["media/boot.efi: the EFI executable was signed, and it has no signature"]
    copy.write_medium(Kind.UKI, data)
    assert copy.faults() == []
    assert sbverify_accepts()
    copy.write_medium(Kind.UKI, change_bytes(data, b"ID=saltflat", b"ID=softflat"))
    assert not sbverify_accepts()
    (fault,) = copy.faults()
    assert fault.endswith("and its signature is not of this executable")
    copy.write_medium(Kind.UKI, data[:-500])
    assert not sbverify_accepts()
    (fault,) = copy.faults()
    assert fault.endswith("its signature is cut short")


@pytest.mark.parametrize("name", ["initrd", "contents.json", "media/boot.efi"])
def test_what_is_no_file_is_found(copy: Copy, name: str) -> None:
    (copy.folder / name).unlink()
    os.mkfifo(copy.folder / name)
    assert f"{name}: it is no file" in copy.faults()
    (copy.folder / name).unlink()
    (copy.folder / name).mkdir()
    assert any(fault.startswith(f"{name}: it ") for fault in copy.faults())


def test_what_no_record_tells_of_is_found(copy: Copy) -> None:
    copy.write("media/old.iso", b"")
    assert copy.faults() == ["media/old.iso: no record tells of it"]
    (copy.folder / "media/media.json").unlink()
    assert len(copy.faults()) == 1 + len(MEDIA)


def without(path: str) -> Callable[[dict[str, ArchiveEntry]], object]:
    return lambda entries: entries.pop(path)


def changed(path: str, **fields: Any) -> Callable[[dict[str, ArchiveEntry]], None]:
    def change(entries: dict[str, ArchiveEntry]) -> None:
        entries[path] = replace(entries[path], **fields)

    return change


ENTRY = "usr/lib/saltflat/agent/tether/__main__.pyc"
ORDER = "usr/lib/modules/order.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(ENTRY), [f"it has no tether: /{ENTRY} is missing", f"/{ENTRY} is missing"]),
        (without(ORDER), [f"/{ORDER} is missing"]),
        (without("usr/lib/modules/sd_mod.ko"), ["the driver sd_mod is missing"]),
        (without("usr/bin/python3.11"), ["it has no Python 3.11, which is recorded"]),
        (changed("init", data=b"#!/bin/sh\n"), ["/init begins with '#!/bin/sh'",
                                               "/init has other content than listed"]),
        (changed(ORDER, data=b"{}"), ["it has other drivers than recorded: none"]),
        (changed(ORDER, data=b"{"), [f"/{ORDER} is not readable"]),
        (changed("init", mode=0o104755), ["/init has the mode 104755, not 100755"]),
        (changed("bin", data=b"tmp"), ["/bin leads to tmp, not usr/bin"]),
        (lambda entries: entries.update(more=regular("more", b"")),
         ["/more is not in the list of contents"]),
        (changed("usr/lib/saltflat/agent/__init__.pyc", data=b""),
         ["/usr/lib/saltflat/agent/__init__.pyc has other content than listed"]),
    ],
)  # fmt: skip
def test_another_initramfs_is_told_by_its_files(
    copy: Copy, change: Callable[[dict[str, ArchiveEntry]], object], said: list[str]
) -> None:
    shutil.rmtree(copy.folder / "media")
    copy.write_initramfs(change)
    faults = [fault for fault in copy.faults() if fault.startswith("initrd: ")]
    for text in said:
        assert any(text in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("protocol", 1, "boot.json: the boot image"),
        ("protocol", 99, "boot.json: the boot image"),
        ("python", "3.12", "it has no Python 3.12"),
        ("compiled_by", "3.11.99", "bytecode by CPython 3.11.99"),
        ("compiled_by", None, "it has no tether"),
        ("modules", ["sd_mod"], "it has other drivers than recorded"),
        ("packages", [], "its packages are not those of boot.json"),
        ("arch", "arm64", "it is for arm64"),
        ("id", "ab" * 32, "the folder's name is"),
        ("kernel.version", "6.6.6", "not 6.6.6"),
        ("kernel.flavour", "tiny", "it does not tell of the image tiny"),
        ("debug", True, "it is a debug image without"),
        ("kernel.package", "linux-image-6.6.6", "linux-image-6.6.6 is not listed"),
    ],
)
def test_every_field_of_the_record_is_held_against_what_is_there(
    copy: Copy, key: str, value: object, said: str
) -> None:
    shutil.rmtree(copy.folder / "media")

    def change(document: Any) -> None:
        *path, last = key.split(".")
        for name in path:
            document = document[name]
        document[last] = value

    copy.change_json("boot.json", change)
    faults = copy.faults()
    assert any(said in fault for fault in faults), faults


def test_lists_that_are_none_are_found(copy: Copy) -> None:
    shutil.rmtree(copy.folder / "media")
    image = copy.image
    for name, field in (("contents.json", "contents_sha256"), ("boot.spdx.json", "sbom_sha256")):
        good = copy.read(name)
        for data in (b"[]", b"{", b'{"schema": 1, "contents": [{}]}', b"[" * 100_000):
            copy.write(name, data)
            sha256 = hashlib.sha256(data).hexdigest()
            copy.write("boot.json", encode_record(replace(image, **{field: sha256})))
            assert any(fault.startswith(f"{name}: it is no ") for fault in copy.faults())
        copy.write(name, good)
