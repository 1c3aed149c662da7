"""What an extent is to those who read a disk: where each byte of it is, and what it is.

Owns the interface of all on-disk formats, and the arithmetic that those with grain tables share.
One module for each format says what its headers, tables and grains may be; which extents make a
link is `converter.vmdk.reader`'s question.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from converter.vmdk.c_vmdk import ENTRY_BYTES, SECTOR
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.entries import from_bytes

if TYPE_CHECKING:
    from array import array

_TABLE_BYTES_KEPT = 128 << 10  # of tables per open extent


class Kind(enum.Enum):
    """Where a range of the disk is to be found, as one link knows it."""

    ABSENT = enum.auto()  # in the parent; zeros when there is none
    ZERO = enum.auto()  # nowhere: zeros, whatever the parent has
    DATA = enum.auto()  # in this link


class Piece(NamedTuple):
    """A range of the disk, in bytes.

    `position` is its place in the extent's file, if it is DATA; that of a compressed grain is where
    its first grain's marker stands.
    """

    kind: Kind
    offset: int
    length: int
    position: int = 0


class Region(NamedTuple):
    """Sectors [begin, end) of the file that hold `what`, which is not guest data."""

    begin: int
    end: int
    what: str


class ExtentReader(ABC):
    """An open extent. Offsets count from its own beginning. It owns its file, if it has one."""

    capacity_bytes: int  # of the disk, that this extent stands for
    grain_bytes: int  # what its pieces are made of

    @abstractmethod
    def piece(self, offset: int, end: int) -> Piece:
        """Return the piece that begins at `offset` and ends at `end` or before.

        0 <= offset < end <= capacity_bytes. Raises IntegrityError for a table entry that may not
        be.
        """

    @abstractmethod
    def read_data(self, piece: Piece, view: memoryview) -> None:
        """Fill `view` with a DATA piece, or its beginning. Raises IntegrityError, OSError."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, if there is one; a second time does nothing."""

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Tell where the bytes [offset, offset + length) are: in order, without gaps.

        Neighbours that lie together in the file come as one. Raises ValueError beyond the
        capacity, IntegrityError for a table entry that may not be.
        """
        if not 0 <= offset <= offset + length <= self.capacity_bytes:
            raise ValueError(f"{length} bytes at {offset}: not within {self.capacity_bytes}")
        pending: Piece | None = None
        end = offset + length
        while offset < end:
            piece = self.piece(offset, end)
            if pending is None:
                pending = piece
            elif pending.kind is piece.kind and (
                piece.kind is not Kind.DATA or pending.position + pending.length == piece.position
            ):
                pending = pending._replace(length=pending.length + piece.length)
            else:
                yield pending
                pending = piece
            offset += piece.length
        if pending is not None:
            yield pending


class FileExtent(ExtentReader):
    """An extent with a file, in which data stand as they are where a subclass says nothing else."""

    def __init__(self, file: DiskFile) -> None:
        """Begin with nothing but the file."""
        self.file = file

    def read_data(self, piece: Piece, view: memoryview) -> None:
        """Fill `view` from where the piece stands in the file."""
        self.file.read_into(piece.position, view)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TableExtent(FileExtent):
    """An extent whose directory leads to tables, whose entries lead to grains.

    A subclass reads the header and calls `take_tables`; what its entries mean is in three methods.
    """

    def take_tables(
        self,
        *,
        capacity: int,
        grain: int,
        table_entries: int,
        directory: array[int],
        regions: Iterable[Region],
        first_grain: int,
    ) -> None:
        """Set what the header said; sizes and places in sectors.

        `directory` has the sector of each table, 0 where there is none, and `regions` whatever in
        the file is not grains. Raises IntegrityError when two of them overlap, or one is beyond
        the end of the file.
        """
        self.capacity_bytes = capacity * SECTOR
        self.grain_bytes = grain * SECTOR
        self.table_entries = table_entries
        self._table_reach = self.grain_bytes * table_entries
        self.directory = directory
        self.first_grain = first_grain
        self.regions = _in_order(regions, self.file)
        self._region_begins = [region.begin for region in self.regions]
        self.grain_file_sectors = grain
        entry_bytes = max(directory.itemsize, 1)
        kept = max(1, _TABLE_BYTES_KEPT // (table_entries * entry_bytes))
        self._table = lru_cache(maxsize=kept)(self.read_table)

    @abstractmethod
    def read_table(self, index: int) -> array[int]:
        """Read the table that entry `index` of the directory, which is not 0, points to."""

    @abstractmethod
    def is_zero_entry(self, entry: int) -> bool:
        """Say whether an entry, which is not 0, stands for zeros."""

    @abstractmethod
    def grain_sector(self, index: int, slot: int, entry: int) -> int:
        """Return the sector of the file that entry `slot` of table `index` points to.

        Raises IntegrityError unless it is one where a grain may be.
        """

    def piece(self, offset: int, end: int) -> Piece:
        """Return the piece that begins at `offset` and lies in one table, or where none is.

        Entries are looked at one by one, as long as they go on alike: grains may be of one sector.
        """
        index, in_table = divmod(offset, self._table_reach)
        length = min(self._table_reach - in_table, end - offset)
        if not self.directory[index]:
            return Piece(Kind.ABSENT, offset, length)
        grain_bytes = self.grain_bytes
        slot, in_grain = divmod(in_table, grain_bytes)
        end_slot = slot + -(-(in_grain + length) // grain_bytes)
        table = self._table(index)
        entry = table[slot]
        after = slot + 1
        if not entry or self.is_zero_entry(entry):
            while after < end_slot and table[after] == entry:
                after += 1
            kind, position = (Kind.ZERO if entry else Kind.ABSENT), 0
        else:
            first = sector = self.grain_sector(index, slot, entry)
            while after < end_slot and (entry := table[after]):
                sector += self.grain_file_sectors
                if self.is_zero_entry(entry) or self.grain_sector(index, after, entry) != sector:
                    break
                after += 1
            kind, position = Kind.DATA, first * SECTOR + in_grain
        return Piece(kind, offset, min((after - slot) * grain_bytes - in_grain, length), position)

    def check_entry(self, index: int, slot: int, sector: int) -> None:
        """Raise IntegrityError unless a grain at `sector` is one that may be."""
        where = f"entry {slot} of grain table {index}"
        if sector < self.first_grain:
            self.file.fail(f"{where} points to sector {sector}, before the first grain")
        end = sector + self.grain_file_sectors
        if end > self.file.sectors:
            self.file.fail(f"{where} points to sector {sector}, beyond the end of the file")
        # The last region that begins before the grain's end is the only one that can reach into it.
        at = bisect_right(self._region_begins, end - 1) - 1
        if self.regions[at].end > sector:
            self.file.fail(f"{where} points to sector {sector}, into the {self.regions[at].what}")


class SectorTableExtent(TableExtent):
    """An extent whose entries, in tables and directory, are sectors in 32 bits."""

    def grain_sector(self, index: int, slot: int, entry: int) -> int:
        """Return `entry`, which is the grain's sector."""
        self.check_entry(index, slot, entry)
        return entry

    def read_entries(self, sector: int, count: int) -> array[int]:
        """Read `count` entries from `sector` on, unchecked."""
        return from_bytes(self.file.read_at(sector * SECTOR, count * ENTRY_BYTES))


def joined_tables(sectors: Iterable[int], table_sectors: int, file: DiskFile) -> Iterator[Region]:
    """Join grain tables that touch, so that a link's regions are few; 0 is no table.

    Raises IntegrityError when two of them overlap.
    """
    begin = end = -1
    for sector in sorted(sector for sector in sectors if sector):
        if sector < end:
            file.fail(f"its grain table at sector {sector} lies in another one")
        if sector != end:
            if end >= 0:
                yield Region(begin, end, "grain tables")
            begin = sector
        end = sector + table_sectors
    if end >= 0:
        yield Region(begin, end, "grain tables")


def _in_order(regions: Iterable[Region], file: DiskFile) -> list[Region]:
    """Sort `regions` and see that no two overlap, and that all are in the file."""
    ordered = sorted(regions)
    for below, above in pairwise(ordered):
        if above.begin < below.end:
            file.fail(f"its {above.what} at sector {above.begin} lies in its {below.what}")
    last = ordered[-1]
    if last.end > file.sectors:
        file.fail(f"its {last.what} ends at sector {last.end}, beyond the end of the file")
    return ordered
