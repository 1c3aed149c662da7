"""Read a hosted sparse extent, version 1, 2 or 3. Owns what its header and tables may say.

Its grains stand in the file as they are; those of a stream are compressed, which is
`converter.vmdk.compressed`'s difference. Whether all entries together make sense is
`converter.vmdk.check`'s question.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from converter.vmdk.c_vmdk import (
    DESCRIPTOR_OFFSET,
    FOOTER_TAIL,
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SPARSE_GD_AT_END,
    SPARSE_GTE_ZEROED,
    SPARSEFLAG_MAGIC_GTE,
    SPARSEFLAG_USE_REDUNDANT,
    SparseExtentHeader,
)
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.extent import Region, SectorTableExtent, joined_tables
from converter.vmdk.header import (
    HeaderError,
    check_places,
    is_compressed,
    parse_footer,
    parse_header,
)
from converter.vmdk.layout import SparseLayout

if TYPE_CHECKING:
    from array import array


class SparseExtent(SectorTableExtent):
    """An open hosted sparse extent; its grains are not compressed."""

    def __init__(self, file: DiskFile, header: SparseExtentHeader) -> None:
        """Take over `file`, which begins with `header`; use `read_header` before."""
        super().__init__(file)
        self.header = header
        self.layout = SparseLayout(header.capacity, header.grainSize)
        self.has_zeroed_grains = bool(header.flags & SPARSEFLAG_MAGIC_GTE)
        directory = self.read_directory(header.gdOffset)
        self.take_tables(
            capacity=header.capacity,
            grain=header.grainSize,
            table_entries=NUM_GTES_PER_GT,
            directory=directory,
            regions=self._regions(directory),
            first_grain=header.overHead,
        )

    def is_zero_entry(self, entry: int) -> bool:
        """Say whether a table entry stands for zeros; without the header's flag none does."""
        return self.has_zeroed_grains and entry == SPARSE_GTE_ZEROED

    def read_table(self, index: int) -> array[int]:
        """Read the grain table that entry `index` of the directory, which is not 0, points to."""
        return self.read_entries(self.directory[index], NUM_GTES_PER_GT)

    def read_directory(self, sector: int) -> array[int]:
        """Read the grain directory, or its copy, at `sector`."""
        return self.read_entries(sector, self.layout.tables)

    def _regions(self, directory: array[int]) -> Iterator[Region]:
        """Yield what is not guest data."""
        header = self.header
        directory_sectors = self.layout.directory_sectors
        yield Region(0, DESCRIPTOR_OFFSET, "header")
        if header.descriptorOffset:
            end = header.descriptorOffset + header.descriptorSize
            yield Region(header.descriptorOffset, end, "descriptor")
        yield Region(header.gdOffset, header.gdOffset + directory_sectors, "grain directory")
        tables = directory
        if header.flags & SPARSEFLAG_USE_REDUNDANT:
            begin = header.rgdOffset
            yield Region(begin, begin + directory_sectors, "redundant grain directory")
            tables = directory + self.read_directory(begin)
        yield from joined_tables(tables, GT_SIZE, self.file)


def read_header(file: DiskFile, *, embeds_descriptor: bool) -> SparseExtentHeader:
    """Read the header of a hosted sparse extent, with the places of its footer if it has one.

    Raises IntegrityError for what we refuse, and for places that are not in the file.
    """
    file.require_whole_sectors()
    try:
        header = parse_header(file.read_at(0, SECTOR), embeds_descriptor=embeds_descriptor)
        if header.gdOffset == SPARSE_GD_AT_END:
            header = _with_footer(file, header)
        check_places(header, file.sectors)
    except HeaderError as fault:
        file.fail(str(fault))
    return header


def _with_footer(file: DiskFile, header: SparseExtentHeader) -> SparseExtentHeader:
    if not is_compressed(header):
        raise HeaderError("its grain directory is behind a footer")
    if file.sectors <= FOOTER_TAIL:
        raise HeaderError("it is too short for its footer")
    tail = file.read_at((file.sectors - FOOTER_TAIL) * SECTOR, FOOTER_TAIL * SECTOR)
    return parse_footer(tail, header)
