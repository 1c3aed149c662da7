"""Read seSparse extents, the delta disks of VMFS 6. Owns what their headers and tables may say.

Nobody outside VMware knows what a writer has to keep of its bitmap, back map and journal, so none
is here. One whose journal has to be replayed is refused.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator

from converter.vmdk.c_sesparse import (
    SESPARSE_CAPACITY_MAX,
    SESPARSE_CONST_HEADER,
    SESPARSE_CONST_HEADER_MAGIC,
    SESPARSE_ENTRY_BYTES,
    SESPARSE_GDE_ALLOCATED,
    SESPARSE_GDE_EMPTY,
    SESPARSE_GDE_INDEX_MASK,
    SESPARSE_GDE_TYPE_MASK,
    SESPARSE_GRAIN_SIZE,
    SESPARSE_GRAIN_TABLE_SIZE,
    SESPARSE_GTE_ALLOCATED,
    SESPARSE_GTE_HIGH_MASK,
    SESPARSE_GTE_HIGH_SHIFT,
    SESPARSE_GTE_LOW_MASK,
    SESPARSE_GTE_LOW_SHIFT,
    SESPARSE_GTE_TYPE_MASK,
    SESPARSE_GTE_UNMAPPED,
    SESPARSE_GTE_ZERO,
    SESPARSE_NUM_GTES_PER_GT,
    SESPARSE_VERSION,
    SESPARSE_VOLATILE_HEADER,
    SESPARSE_VOLATILE_HEADER_MAGIC,
    SESparseConstHeader,
    SESparseVolatileHeader,
)
from converter.vmdk.c_vmdk import SECTOR
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.extent import Region, TableExtent

_U64 = "Q"
assert array(_U64).itemsize == SESPARSE_ENTRY_BYTES


class SeSparseExtent(TableExtent):
    """An open seSparse extent."""

    def __init__(self, file: DiskFile) -> None:
        """Take over `file`. Raises IntegrityError for what is no sound seSparse extent."""
        super().__init__(file)
        file.require_whole_sectors()
        self.header = header = _read_const_header(file)
        regions = list(_regions(header, file))
        _check_volatile_header(file, header)
        tables = -(-header.capacity // (SESPARSE_NUM_GTES_PER_GT * SESPARSE_GRAIN_SIZE))
        if tables * SESPARSE_ENTRY_BYTES > header.grain_dir_size * SECTOR:
            file.fail(f"its grain directory of {header.grain_dir_size} sectors is too small")
        self.take_tables(
            capacity=header.capacity,
            grain=SESPARSE_GRAIN_SIZE,
            table_entries=SESPARSE_NUM_GTES_PER_GT,
            directory=self._table_sectors(self._entries(header.grain_dir_offset, tables)),
            regions=regions,
            first_grain=header.grains_offset,
        )

    def is_zero_entry(self, entry: int) -> bool:
        """Say whether an entry stands for zeros: written so, or given back by UNMAP."""
        return entry & SESPARSE_GTE_TYPE_MASK in {SESPARSE_GTE_ZERO, SESPARSE_GTE_UNMAPPED}

    def grain_sector(self, index: int, slot: int, entry: int) -> int:
        """Return the sector of the grain that `entry` names by its number."""
        if entry & SESPARSE_GTE_TYPE_MASK != SESPARSE_GTE_ALLOCATED:
            self.file.fail(f"entry {slot} of grain table {index} is {entry:#x}, of no known type")
        number = (entry & SESPARSE_GTE_LOW_MASK) >> SESPARSE_GTE_LOW_SHIFT
        number |= (entry & SESPARSE_GTE_HIGH_MASK) << SESPARSE_GTE_HIGH_SHIFT
        header = self.header
        if (number + 1) * SESPARSE_GRAIN_SIZE > header.grains_size:
            self.file.fail(
                f"entry {slot} of grain table {index} points to grain {number}, "
                f"beyond the {header.grains_size} sectors of its grains"
            )
        sector = header.grains_offset + number * SESPARSE_GRAIN_SIZE
        self.check_entry(index, slot, sector)
        return sector

    def read_table(self, index: int) -> array[int]:
        """Read the grain table of entry `index` of the directory."""
        return self._entries(self.directory[index], SESPARSE_NUM_GTES_PER_GT)

    def _entries(self, sector: int, count: int) -> array[int]:
        values = array(_U64, self.file.read_at(sector * SECTOR, count * SESPARSE_ENTRY_BYTES))
        if sys.byteorder == "big":
            values.byteswap()
        return values

    def _table_sectors(self, directory: array[int]) -> array[int]:
        """Turn the directory's entries into the sectors of tables, each one used once."""
        header = self.header
        seen = set()
        for index, entry in enumerate(directory):
            if entry == SESPARSE_GDE_EMPTY:
                continue
            number = entry & SESPARSE_GDE_INDEX_MASK
            if entry & SESPARSE_GDE_TYPE_MASK != SESPARSE_GDE_ALLOCATED:
                self.file.fail(f"entry {index} of its directory is {entry:#x}, of no known type")
            if (number + 1) * SESPARSE_GRAIN_TABLE_SIZE > header.grain_tables_size:
                self.file.fail(f"entry {index} of its directory points to no table: {number}")
            if number in seen:
                self.file.fail(f"entry {index} of its directory points to table {number} again")
            seen.add(number)
            directory[index] = header.grain_tables_offset + number * SESPARSE_GRAIN_TABLE_SIZE
        return directory


def _read_const_header(file: DiskFile) -> SESparseConstHeader:
    header = SESparseConstHeader._make(SESPARSE_CONST_HEADER.unpack(file.read_at(0, SECTOR)))
    if header.magic != SESPARSE_CONST_HEADER_MAGIC:
        file.fail("it does not begin with a seSparse header")
    for what, found, wanted in (
        ("version", header.version, SESPARSE_VERSION),
        ("grain size", header.grain_size, SESPARSE_GRAIN_SIZE),
        ("grain table size", header.grain_table_size, SESPARSE_GRAIN_TABLE_SIZE),
        ("flags", header.flags, 0),
    ):
        if found != wanted:
            file.fail(f"its {what} is {found:#x}, not {wanted:#x}")
    if not 0 < header.capacity <= SESPARSE_CAPACITY_MAX:
        file.fail(f"its capacity is {header.capacity} sectors")
    return header


def _regions(header: SESparseConstHeader, file: DiskFile) -> Iterator[Region]:
    """Yield the areas that are not grains, each of which is in the file."""
    yield Region(0, 1, "header")
    for what, begin, sectors in (
        ("volatile header", header.volatile_header_offset, header.volatile_header_size),
        ("journal header", header.journal_header_offset, header.journal_header_size),
        ("journal", header.journal_offset, header.journal_size),
        ("grain directory", header.grain_dir_offset, header.grain_dir_size),
        ("grain tables", header.grain_tables_offset, header.grain_tables_size),
        ("free bitmap", header.free_bitmap_offset, header.free_bitmap_size),
        ("back map", header.backmap_offset, header.backmap_size),
    ):
        if begin + sectors > file.sectors:
            file.fail(f"its {what} at sector {begin} is beyond the end of the file")
        if sectors:
            yield Region(begin, begin + sectors, what)


def _check_volatile_header(file: DiskFile, header: SESparseConstHeader) -> None:
    if not header.volatile_header_size:
        file.fail("it has no volatile header")
    volatile = SESparseVolatileHeader._make(
        SESPARSE_VOLATILE_HEADER.unpack(
            file.read_at(header.volatile_header_offset * SECTOR, SECTOR)
        )
    )
    if volatile.magic != SESPARSE_VOLATILE_HEADER_MAGIC:
        file.fail("its volatile header has another magic number")
    if volatile.replay_journal:
        file.fail("its journal has to be replayed by the ESXi that wrote it")
