"""Write a COWD extent, ESXi's redo log: a child of a vmfs disk. Its descriptor is apart.

    header | directory | (table, grains of its region)...

The descriptor is `converter.vmdk.descriptor.link_descriptor` of the type vmfsSparse. The format has
no entry for zeros: in a child, a grain of zeros is written as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SaltflatError
from converter.vmdk.c_cowd import (
    COWD_FLAGS,
    COWD_GD_OFFSET,
    COWD_GDE_EMPTY,
    COWD_GT_SIZE,
    COWD_GTE_EMPTY,
    COWD_HEADER,
    COWD_MAGICNUMBER,
    COWD_NUM_GTES_PER_GT,
    COWD_VERSION,
    COWDisk_Header,
)
from converter.vmdk.c_vmdk import (
    CAPACITY_MAX,
    GDES_PER_SECTOR,
    GRAIN_SIZE_MAX,
    SECTOR,
    SECTOR_LIMIT,
)
from converter.vmdk.entries import entries, to_bytes
from converter.vmdk.writing import Ascending, LinkSummary, put, runs

if TYPE_CHECKING:
    from array import array

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_GRAINS = tuple(1 << shift for shift in range(GRAIN_SIZE_MAX.bit_length()))  # sectors


def smallest_grain_bytes(ranges: Iterable[tuple[int, int]]) -> int:
    """Return the grain size that makes the smallest file of what `ranges` change.

    Ranges are (byte offset, bytes), ascending and apart. Small grains waste less around each
    change, but a table of them, 16 KiB, covers less of the disk. Of two sizes that make equal
    files the larger one is taken. All ranges are seen once and none is kept.
    """
    grains = dict.fromkeys(_GRAINS, 0)
    tables = dict.fromkeys(_GRAINS, 0)
    last_grain = dict.fromkeys(_GRAINS, -1)
    last_table = dict.fromkeys(_GRAINS, -1)
    for offset, length in ranges:
        if length <= 0:
            continue
        for grain in _GRAINS:
            first = max(offset // (grain * SECTOR), last_grain[grain] + 1)
            last = (offset + length - 1) // (grain * SECTOR)
            if last < first:
                continue
            grains[grain] += last - first + 1
            first_table = max(first // COWD_NUM_GTES_PER_GT, last_table[grain] + 1)
            tables[grain] += last // COWD_NUM_GTES_PER_GT - first_table + 1
            last_grain[grain], last_table[grain] = last, last // COWD_NUM_GTES_PER_GT
    sizes = {grain: grains[grain] * grain + tables[grain] * COWD_GT_SIZE for grain in _GRAINS}
    return min(_GRAINS, key=lambda grain: (sizes[grain], -grain)) * SECTOR


class CowdWriter:
    """Write one extent, grain after grain, then `finish()`. Memory is the directory and a table.

    A base has no grains of zeros; a child has them, for they hide the parent's.
    """

    def __init__(
        self, file: BinaryIO, *, capacity_bytes: int, grain_bytes: int, has_parent: bool = True
    ) -> None:
        """Begin an extent in `file`: empty, seekable, unbuffered, nobody else's until the end.

        `grain_bytes` is a power of two from 512 to 64 KiB, of which the capacity is a multiple.
        Raises ValueError for other sizes.
        """
        grain, odd_bytes = divmod(grain_bytes, SECTOR)
        if odd_bytes or grain not in _GRAINS:
            raise ValueError(f"grain of {grain_bytes} bytes")
        if capacity_bytes <= 0 or capacity_bytes % grain_bytes:
            raise ValueError(f"capacity of {capacity_bytes} bytes in grains of {grain_bytes}")
        if capacity_bytes >= CAPACITY_MAX * SECTOR:
            raise ValueError(f"capacity of {capacity_bytes} bytes: not below 2 TiB")
        self.grain_bytes = grain_bytes
        self._file = file
        self._grain = grain
        self._has_parent = has_parent
        self._capacity = capacity_bytes // SECTOR
        self._rules = Ascending(capacity_bytes, grain_bytes)
        self._zero_grain = bytes(grain_bytes)
        tables = -(-self._capacity // (grain * COWD_NUM_GTES_PER_GT))
        self._directory = entries(repeat(COWD_GDE_EMPTY, tables))
        self._directory_sectors = -(-tables // GDES_PER_SECTOR)
        self._table: array[int] | None = None
        self._table_index = -1
        self._next_sector = COWD_GD_OFFSET + self._directory_sectors
        self._grains = 0

    def write(self, offset: int, data: Buffer) -> None:
        """Write whole grains at byte `offset`, as `DiskWriter` says."""
        view = self._rules.take(offset, data)
        number = offset // self.grain_bytes
        for is_zero, run in runs(view, self._zero_grain):
            count = len(run) // self.grain_bytes
            if not is_zero or self._has_parent:
                self._append(number, run)
            number += count

    def finish(self) -> LinkSummary:
        """Write the last table, the directory and the header."""
        self._end_table()
        header = COWDisk_Header(
            magicNumber=COWD_MAGICNUMBER,
            version=COWD_VERSION,
            flags=COWD_FLAGS,
            numSectors=self._capacity,
            grainSize=self._grain,
            gdOffset=COWD_GD_OFFSET,
            numGDEntries=len(self._directory),
            freeSector=self._next_sector,
            uncleanShutdown=0,
        )
        self._file.truncate(self._next_sector * SECTOR)
        self._file.seek(0)
        directory = to_bytes(self._directory).ljust(self._directory_sectors * SECTOR, b"\0")
        put(self._file, COWD_HEADER.pack(*header) + directory)
        return LinkSummary(self._grains, 0, self._next_sector * SECTOR)

    def _append(self, number: int, run: memoryview) -> None:
        while run:
            index, slot = divmod(number, COWD_NUM_GTES_PER_GT)
            if index != self._table_index:
                self._begin_table(index)
            assert self._table is not None
            count = min(len(run) // self.grain_bytes, COWD_NUM_GTES_PER_GT - slot)
            sectors = count * self._grain
            self._require_room(sectors)
            self._table[slot : slot + count] = entries(
                range(self._next_sector, self._next_sector + sectors, self._grain)
            )
            self._file.seek(self._next_sector * SECTOR)
            put(self._file, run[: count * self.grain_bytes])
            self._next_sector += sectors
            self._grains += count
            number += count
            run = run[count * self.grain_bytes :]

    def _begin_table(self, index: int) -> None:
        self._end_table()
        self._require_room(COWD_GT_SIZE)
        self._directory[index] = self._next_sector
        self._next_sector += COWD_GT_SIZE
        self._table_index = index
        self._table = entries(repeat(COWD_GTE_EMPTY, COWD_NUM_GTES_PER_GT))

    def _end_table(self) -> None:
        if self._table is not None:
            self._file.seek(self._directory[self._table_index] * SECTOR)
            put(self._file, to_bytes(self._table))
        self._table = None

    def _require_room(self, sectors: int) -> None:
        if self._next_sector + sectors > SECTOR_LIMIT - 1:
            raise SaltflatError(
                "A COWD disk would grow to 2 TiB, which the format cannot address.",
                expected="less than 2 TiB of changed data and tables in one link",
            )
