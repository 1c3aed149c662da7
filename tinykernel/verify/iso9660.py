"""Read files of an ISO image in memory, and what El Torito starts. Pure.

Only what our own images have: short names, one extent for each file. An image may come from
anywhere: whatever it says is held against its size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from converter.errors import IntegrityError
from tinykernel.verify import c_iso9660 as c


@dataclass(frozen=True, slots=True)
class IsoFile:
    """A file or folder: its first sector, and its content."""

    sector: int
    content: bytes
    is_directory: bool


@dataclass(frozen=True, slots=True)
class BootEntries:
    """The first sectors of what a PC's BIOS and EFI firmware start; None where nothing is."""

    bios: int | None
    efi: int | None


def read_iso_file(image: bytes, path: tuple[str, ...]) -> IsoFile:
    """Return the file `path`, names in capitals. Raises IntegrityError."""
    if not image.startswith(c.PRIMARY_BEGIN, c.PRIMARY_AT):
        raise IntegrityError("there is no ISO 9660 file system")
    _name, found = _record(image, image, c.PRIMARY_AT + c.ROOT_RECORD)
    for name in path:
        records = _records(image, found.content) if found.is_directory else iter(())
        inner = next((entry for known, entry in records if known == name), None)
        if inner is None:
            raise IntegrityError(f"the ISO image has no {'/'.join(path)}")
        found = inner
    return found


def read_boot_entries(image: bytes) -> BootEntries:
    """Return what the boot catalog starts. Raises IntegrityError when there is none."""
    for number in range(c.VOLUME_DESCRIPTORS_MAX):
        at = c.PRIMARY_AT + number * c.SECTOR
        if image.startswith(c.BOOT_RECORD_BEGIN, at) and len(image) >= at + c.SECTOR:
            (sector,) = struct.unpack_from("<I", image, at + c.BOOT_CATALOG)
            return _catalog(image[sector * c.SECTOR :][: c.SECTOR])
    raise IntegrityError("the ISO image has no boot catalog")


def _catalog(catalog: bytes) -> BootEntries:
    whole = len(catalog) - c.CATALOG_ENTRY + 1
    entries = [catalog[at : at + c.CATALOG_ENTRY] for at in range(0, whole, c.CATALOG_ENTRY)]
    if len(entries) < 2 or not entries[0].startswith(c.VALIDATION_BEGIN):
        raise IntegrityError("the ISO image's boot catalog is damaged")
    efi = None
    for header, entry in pairwise(entries[2:]):
        if header[0] in c.SECTION_HEADERS and header[1] == c.PLATFORM_EFI:
            efi = _start(entry)
    return BootEntries(_start(entries[1]), efi)


def _start(entry: bytes) -> int | None:
    indicator, _sectors, first = c.BOOT_ENTRY.unpack_from(entry)
    return int(first) if indicator == c.BOOTABLE else None


def _records(image: bytes, folder: bytes) -> Iterator[tuple[str, IsoFile]]:
    at = 0
    while at < len(folder):
        if not folder[at]:  # no record crosses a sector's end
            at += c.SECTOR - at % c.SECTOR
            continue
        yield _record(image, folder, at)
        at += folder[at]


def _record(image: bytes, table: bytes, at: int) -> tuple[str, IsoFile]:
    """Return the name and the file of the directory record at `at` of `table`."""
    if at + c.DIRECTORY_RECORD.size > len(table):
        raise IntegrityError("a folder of the ISO image is damaged")
    _length, sector, size, flags, name_size = c.DIRECTORY_RECORD.unpack_from(table, at)
    name_at = at + c.DIRECTORY_RECORD.size
    name = table[name_at : name_at + name_size].decode("ascii", "replace")
    start = sector * c.SECTOR
    if start + size > len(image):
        raise IntegrityError(f"{name} in the ISO image is cut short")
    plain = name.partition(";")[0].removesuffix(".")  # without its version, 7.5.1
    file = IsoFile(sector, image[start : start + size], bool(flags & c.FLAG_DIRECTORY))
    return plain, file
