"""Hold a boot image's media against its record: what is in each is the image's own.

Owns what each kind of medium must hold and where it is looked for. A medium is read whole into
memory, so its size is bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from converter.atomic import TEMP_PREFIX
from converter.errors import IntegrityError, SaltflatError
from converter.vmdk.chain import open_chain
from converter.vmdk.check import check_link
from tinykernel.media.record import MEDIA_FOLDER, RECORD_FILE, Kind, Media, Medium, read_media
from tinykernel.record import BootImage
from tinykernel.verify.executable import Executable
from tinykernel.verify.fat import read_fat_file
from tinykernel.verify.files import check_size, read_file
from tinykernel.verify.findings import Check, Fault, Finding
from tinykernel.verify.gpt import read_system_partition
from tinykernel.verify.iso9660 import read_boot_entries, read_iso_file

_LOADER = ("EFI", "BOOT", "BOOTX64.EFI")
_ANEW = "Make it anew: saltflat boot build --media"


def verify_media(image: BootImage) -> Iterator[Finding]:
    """Yield what is to be said of the media that were made of `image`, if any."""
    folder = image.folder / MEDIA_FOLDER
    if not folder.is_dir():
        return
    record = f"{MEDIA_FOLDER}/{RECORD_FILE}"
    try:
        media = read_media(image)
    except IntegrityError as error:
        yield Fault(record, error.what, _ANEW)
        return
    known = {RECORD_FILE} if media is not None else set()
    if media is not None:
        if read_file(folder / RECORD_FILE) != media.encode():
            yield Fault(record, "it is not as it was written", _ANEW)
        yield Check(record, f"{len(media.media)} media, {_signed(media)}")
        for medium in media.media:
            known.add(medium.path.name)
            yield from _verify(medium, image, media)
    for path in sorted(folder.iterdir()):
        if path.name not in known and not path.name.startswith(TEMP_PREFIX):
            yield Fault(f"{MEDIA_FOLDER}/{path.name}", "no record tells of it", f"Remove {path}.")


def _verify(medium: Medium, image: BootImage, media: Media) -> Iterator[Finding]:
    subject = f"{MEDIA_FOLDER}/{medium.path.name}"
    faults = []
    try:
        data = read_file(medium.path)
        if len(data) != medium.size_bytes:
            faults.append(f"it has {len(data)} bytes, not {medium.size_bytes}")
        found = hashlib.sha256(data).hexdigest()
        if found != medium.sha256:
            faults.append(f"it has the sha256 {found}, not {medium.sha256}")
        faults += _content_faults(medium, data, image, media)
    except OSError as error:
        faults.append(f"it cannot be read: {error.strerror}")
    except SaltflatError as error:
        faults.append(error.what)
    if faults:
        yield from (Fault(subject, fault, _ANEW) for fault in faults)
    else:
        yield Check(
            subject, f"kernel, initramfs and command line are the image's, {_signed(media)}"
        )


def _content_faults(medium: Medium, data: bytes, image: BootImage, media: Media) -> Iterator[str]:
    """Yield what of a medium is not the image's. Raises SaltflatError where it is unreadable."""
    if medium.kind is Kind.ISO:
        partition = read_iso_file(data, ("EFI.IMG",)).content
        yield from _iso_faults(data, image, media)
        executable = read_fat_file(partition, _LOADER)
    elif medium.kind is Kind.UKI:
        executable = data
    else:
        executable = read_fat_file(read_system_partition(_disk(medium)), _LOADER)
    yield from _executable_faults(executable, image, media)


def _executable_faults(data: bytes, image: BootImage, media: Media) -> Iterator[str]:
    executable = Executable.read(data)
    sections = executable.sections()
    for name, what, sha256 in (
        (".linux", "kernel", image.kernel_sha256),
        (".initrd", "initramfs", image.initrd_sha256),
    ):
        if hashlib.sha256(sections.get(name, b"")).hexdigest() != sha256:
            yield f"the {what} in its EFI executable is not the image's"
    for name, what, text in (
        (".cmdline", "command line", media.command_line),
        (".uname", "kernel version", image.kernel_version),
    ):
        found = sections.get(name, b"").rstrip(b"\0").decode("utf-8", "replace")
        if found != text:
            yield f"the {what} in its EFI executable is {found!r}, not {text!r}"
    if media.signed and (fault := executable.signature_fault()) is not None:
        yield f"the EFI executable was signed, and {fault}"


def _iso_faults(data: bytes, image: BootImage, media: Media) -> Iterator[str]:
    """Yield what is wrong with the way of a PC's BIOS, and with what firmware is told to start."""
    for path, what, sha256 in (
        (("VMLINUZ",), "kernel", image.kernel_sha256),
        (("INITRD",), "initramfs", image.initrd_sha256),
    ):
        if hashlib.sha256(read_iso_file(data, path).content).hexdigest() != sha256:
            yield f"the {what} for BIOS machines is not the image's"
    settings = read_iso_file(data, ("ISOLINUX", "ISOLINUX.CFG")).content.decode("ascii", "replace")
    lines = [line.strip() for line in settings.splitlines()]
    if f"APPEND {media.command_line}" not in lines:
        yield f"the command line for BIOS machines is not {media.command_line!r}"
    entries = read_boot_entries(data)
    for name, place, sector in (
        ("BIOS machines", "ISOLINUX/ISOLINUX.BIN", entries.bios),
        ("EFI firmware", "EFI.IMG", entries.efi),
    ):
        if read_iso_file(data, tuple(place.split("/"))).sector != sector:
            yield f"{name} would not start {place}"


def _disk(medium: Medium) -> bytes:
    """Return the disk that a VMDK holds."""
    if medium.kind is Kind.VMDK:
        check_link(medium.path)
    with open_chain(medium.path) as chain:
        return chain.read(0, check_size(chain.capacity_bytes))


def _signed(media: Media) -> str:
    return "signed" if media.signed else "not signed"
