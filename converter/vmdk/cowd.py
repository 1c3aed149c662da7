"""Read COWD extents, ESXi's redo logs. Owns what their header and tables may say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from converter.vmdk.c_cowd import (
    COWD_GRAIN_SIZE_MAX,
    COWD_GT_SIZE,
    COWD_HEADER,
    COWD_HEADER_SECTORS,
    COWD_MAGICNUMBER,
    COWD_NUM_GTES_PER_GT,
    COWD_VERSION,
    COWDisk_Header,
)
from converter.vmdk.c_vmdk import CAPACITY_MAX, ENTRY_BYTES, SECTOR
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.extent import Region, SectorTableExtent, joined_tables

if TYPE_CHECKING:
    from array import array


class CowdExtent(SectorTableExtent):
    """An open COWD extent."""

    def __init__(self, file: DiskFile) -> None:
        """Take over `file`. Raises IntegrityError for what is no COWD extent."""
        super().__init__(file)
        file.require_whole_sectors()
        self.header = header = _read_header(file)
        self._directory_end = header.gdOffset + -(-header.numGDEntries * ENTRY_BYTES // SECTOR)
        if self._directory_end > file.sectors:
            file.fail(f"its grain directory at sector {header.gdOffset} is beyond the end")
        directory = self.read_entries(header.gdOffset, header.numGDEntries)
        self.take_tables(
            capacity=header.numSectors,
            grain=header.grainSize,
            table_entries=COWD_NUM_GTES_PER_GT,
            directory=directory,
            regions=self._regions(directory),
            first_grain=COWD_HEADER_SECTORS,
        )

    def is_zero_entry(self, entry: int) -> bool:
        """Say no: the format has no entry for zeros."""
        return False

    def read_table(self, index: int) -> array[int]:
        """Read the grain table that entry `index` of the directory points to."""
        return self.read_entries(self.directory[index], COWD_NUM_GTES_PER_GT)

    def _regions(self, directory: array[int]) -> Iterator[Region]:
        yield Region(0, COWD_HEADER_SECTORS, "header")
        yield Region(self.header.gdOffset, self._directory_end, "grain directory")
        yield from joined_tables(directory, COWD_GT_SIZE, self.file)


def _read_header(file: DiskFile) -> COWDisk_Header:
    if file.sectors < COWD_HEADER_SECTORS:
        file.fail(f"its {file.sectors} sectors are less than a COWD header")
    header = COWDisk_Header._make(COWD_HEADER.unpack(file.read_at(0, COWD_HEADER.size)))
    if header.magicNumber != COWD_MAGICNUMBER:
        file.fail("it does not begin with a COWD header")
    if header.version != COWD_VERSION:
        file.fail(f"its version is {header.version}")
    grain = header.grainSize
    if grain & (grain - 1) or not 1 <= grain <= COWD_GRAIN_SIZE_MAX:
        file.fail(f"its grains have {grain} sectors")
    if not 0 < header.numSectors < CAPACITY_MAX:
        file.fail(f"its capacity is {header.numSectors} sectors")
    wanted = -(-header.numSectors // (COWD_NUM_GTES_PER_GT * grain))
    if header.numGDEntries != wanted:
        file.fail(f"its grain directory has {header.numGDEntries} entries, not {wanted}")
    return header
