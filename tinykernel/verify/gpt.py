"""Find the EFI system partition of a disk in memory. Pure."""

from __future__ import annotations

import zlib

from converter.errors import IntegrityError
from tinykernel.verify import c_gpt as c


def read_system_partition(disk: bytes) -> bytes:
    """Return the content of the disk's EFI system partition. Raises IntegrityError."""
    if len(disk) < c.HEADER_AT + c.SECTOR or not disk.startswith(c.SIGNATURE, c.HEADER_AT):
        raise IntegrityError("the disk has no GUID partition table")
    _, _, header_size, header_crc, entries_lba, count, entry_size, entries_crc = (
        c.HEADER.unpack_from(disk, c.HEADER_AT)
    )
    header = bytearray(disk[c.HEADER_AT : c.HEADER_AT + header_size])
    header[c.HEADER_CRC : c.HEADER_CRC + 4] = bytes(4)
    start = entries_lba * c.SECTOR
    entries = disk[start : start + min(count * entry_size, c.ENTRIES_LIMIT_BYTES)]
    if zlib.crc32(header) != header_crc or zlib.crc32(entries) != entries_crc:
        raise IntegrityError("the disk's partition table is damaged: its checksum is wrong")
    for at in range(0, len(entries) - c.ENTRY.size + 1, max(entry_size, c.ENTRY.size)):
        kind, first, last = c.ENTRY.unpack_from(entries, at)
        if kind == c.EFI_SYSTEM_PARTITION:
            if (last + 1) * c.SECTOR > len(disk):
                raise IntegrityError("the disk is shorter than its partition")
            return disk[first * c.SECTOR : (last + 1) * c.SECTOR]
    raise IntegrityError("the disk has no EFI system partition")
