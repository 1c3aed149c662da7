"""Read one monolithicSparse link. Owns what its header, descriptor and tables may say.

A link may come from anywhere, so it is hostile until checked: header, descriptor and directory when
the file is opened, each table entry when it is used. What is wrong raises IntegrityError that names
file and fault. Whether all entries together make sense is `converter.vmdk.check`'s question.
"""

from __future__ import annotations

import enum
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from converter.errors import IntegrityError, NotFoundError
from converter.vmdk.c_vmdk import (
    CREATE_TYPE_MONOLITHIC_SPARSE,
    DESCRIPTOR_OFFSET,
    ENTRY_BYTES,
    EXTENT_TYPE_SPARSE,
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SPARSE_GDE_EMPTY,
    SPARSE_GTE_EMPTY,
    SPARSE_GTE_ZEROED,
    SPARSEFLAG_MAGIC_GTE,
    SPARSEFLAG_USE_REDUNDANT,
)
from converter.vmdk.descriptor import Descriptor, parse
from converter.vmdk.entries import from_bytes
from converter.vmdk.header import HeaderError, parse_header
from converter.vmdk.layout import SparseLayout

if TYPE_CHECKING:
    from array import array

_TABLES_KEPT = 64  # 128 KiB of tables per open link


class Kind(enum.Enum):
    """Where a range of the disk is to be found, as one link knows it."""

    ABSENT = enum.auto()  # in the parent; zeros when there is none
    ZERO = enum.auto()  # nowhere: zeros, whatever the parent has
    DATA = enum.auto()  # in this link


class Piece(NamedTuple):
    """A range of the disk, in bytes. `position` is its place in the link's file, if it is DATA."""

    kind: Kind
    offset: int
    length: int
    position: int = 0


class Region(NamedTuple):
    """Sectors [begin, end) of the file that hold `what`, which is not guest data."""

    begin: int
    end: int
    what: str


class SparseLink:
    """An open link; a context manager that owns the file descriptor."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over the open file `descriptor`; use `read_link`."""
        self.path = path
        self._fd = descriptor
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        self._table = lru_cache(maxsize=_TABLES_KEPT)(self.read_table)

    def _load(self) -> None:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.fail("it is not a regular file")
        self.file_id = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size
        self.sectors, odd_bytes = divmod(self.size_bytes, SECTOR)
        if not self.sectors or odd_bytes:
            self.fail(f"its size of {self.size_bytes} bytes is not a number of sectors")
        try:
            self.header = parse_header(self.read_at(0, SECTOR), self.sectors)
        except HeaderError as fault:
            self.fail(str(fault))
        self.layout = SparseLayout(self.header.capacity, self.header.grainSize)
        self.has_zeroed_grains = bool(self.header.flags & SPARSEFLAG_MAGIC_GTE)
        self.descriptor = self._read_descriptor()
        self.directory = self.read_directory(self.header.gdOffset)
        self.regions = self._regions()
        self._region_begins = [region.begin for region in self.regions]

    def __enter__(self) -> Self:
        """Return the link itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def capacity_bytes(self) -> int:
        """Return the size of the disk."""
        return self.header.capacity * SECTOR

    @property
    def grain_bytes(self) -> int:
        """Return the size of a grain."""
        return self.header.grainSize * SECTOR

    def fail(self, fault: str) -> NoReturn:
        """Raise IntegrityError for this file: `fault` is a clause about `it`."""
        raise IntegrityError(
            f"{self.path} is not a sound VMDK link: {fault}.",
            expected="a monolithicSparse link",
            hint="Make it anew from its image, or fetch it again.",
        )

    def read_at(self, position: int, length: int) -> bytes:
        """Read exactly `length` bytes of the file, raw. Raises IntegrityError at its end."""
        data = bytearray(length)
        self.read_into(position, memoryview(data))
        return bytes(data)

    def read_into(self, position: int, view: memoryview) -> None:
        """Fill `view` from byte `position` of the file. Raises IntegrityError at its end."""
        while view:
            count = os.preadv(self._fd, [view], position)
            if not count:
                self.fail(f"it ends at byte {position}, in the middle of what it promised")
            view = view[count:]
            position += count

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Tell where the bytes [offset, offset + length) of the disk are: in order, without gaps.

        Neighbours that lie together in the file come as one. Raises ValueError beyond the
        capacity, IntegrityError for a table entry that may not be.
        """
        if not 0 <= offset <= offset + length <= self.capacity_bytes:
            raise ValueError(f"{length} bytes at {offset}: not within {self.capacity_bytes}")
        pending: Piece | None = None
        end = offset + length
        while offset < end:
            piece = self._piece(offset, end)
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

    def _piece(self, offset: int, end: int) -> Piece:
        """Return the piece that begins at `offset` and lies in one grain or one absent table."""
        index, in_table = divmod(offset, self.grain_bytes * NUM_GTES_PER_GT)
        if self.directory[index] == SPARSE_GDE_EMPTY:
            reach = self.grain_bytes * NUM_GTES_PER_GT - in_table
            return Piece(Kind.ABSENT, offset, min(reach, end - offset))
        slot, in_grain = divmod(in_table, self.grain_bytes)
        length = min(self.grain_bytes - in_grain, end - offset)
        entry = self._table(index)[slot]
        if entry == SPARSE_GTE_EMPTY:
            return Piece(Kind.ABSENT, offset, length)
        if self.is_zero_entry(entry):
            return Piece(Kind.ZERO, offset, length)
        self.check_entry(index, slot, entry)
        return Piece(Kind.DATA, offset, length, entry * SECTOR + in_grain)

    def is_zero_entry(self, entry: int) -> bool:
        """Say whether a table entry stands for zeros; without the header's flag none does."""
        return self.has_zeroed_grains and entry == SPARSE_GTE_ZEROED

    def check_entry(self, index: int, slot: int, entry: int) -> None:
        """Raise IntegrityError unless the grain at sector `entry` is one that may be."""
        where = f"entry {slot} of grain table {index}"
        if entry < self.header.overHead:
            self.fail(f"{where} points to sector {entry}, before the first grain")
        end = entry + self.header.grainSize
        if end > self.sectors:
            self.fail(f"{where} points to sector {entry}, beyond the end of the file")
        # The last region that begins before the grain's end is the only one that can reach into it.
        at = bisect_right(self._region_begins, end - 1) - 1
        if self.regions[at].end > entry:
            self.fail(f"{where} points to sector {entry}, into the {self.regions[at].what}")

    def read_table(self, index: int) -> array[int]:
        """Read the grain table that entry `index` of the directory, which is not 0, points to."""
        return self.read_entries(self.directory[index], NUM_GTES_PER_GT)

    def read_directory(self, sector: int) -> array[int]:
        """Read the grain directory, or its copy, at `sector`."""
        return self.read_entries(sector, self.layout.tables)

    def read_entries(self, sector: int, count: int) -> array[int]:
        """Read `count` entries from `sector` on, unchecked."""
        return from_bytes(self.read_at(sector * SECTOR, count * ENTRY_BYTES))

    def _read_descriptor(self) -> Descriptor:
        text = self.read_at(
            self.header.descriptorOffset * SECTOR, self.header.descriptorSize * SECTOR
        )
        descriptor = parse(text, os.fspath(self.path))
        if descriptor.create_type != CREATE_TYPE_MONOLITHIC_SPARSE:
            self.fail(f"its type is {descriptor.create_type[:40]!r}")
        if len(descriptor.extents) != 1 or descriptor.extents[0].kind != EXTENT_TYPE_SPARSE:
            self.fail("its descriptor has other extents than one sparse one")
        if descriptor.capacity_bytes != self.capacity_bytes:
            self.fail(
                f"its descriptor says {descriptor.capacity_bytes} bytes of capacity, "
                f"its header {self.capacity_bytes}"
            )
        return descriptor

    def _regions(self) -> list[Region]:
        """List what is not guest data, in order; neighbours of a kind are one. No two overlap."""
        header = self.header
        directory_sectors = self.layout.directory_sectors
        regions = [
            Region(0, DESCRIPTOR_OFFSET, "header"),
            Region(
                header.descriptorOffset,
                header.descriptorOffset + header.descriptorSize,
                "descriptor",
            ),
            Region(header.gdOffset, header.gdOffset + directory_sectors, "grain directory"),
        ]
        tables = sorted(sector for sector in self.directory if sector != SPARSE_GDE_EMPTY)
        if header.flags & SPARSEFLAG_USE_REDUNDANT:
            begin = header.rgdOffset
            regions.append(Region(begin, begin + directory_sectors, "redundant grain directory"))
            copies = self.read_directory(begin)
            tables = sorted([*tables, *(sector for sector in copies if sector != SPARSE_GDE_EMPTY)])
        regions += self._merged_tables(tables)
        regions.sort()
        for below, above in pairwise(regions):
            if above.begin < below.end:
                self.fail(f"its {above.what} at sector {above.begin} lies in its {below.what}")
        last = regions[-1]
        if last.end > self.sectors:
            self.fail(f"its {last.what} ends at sector {last.end}, beyond the end of the file")
        return regions

    def _merged_tables(self, tables: list[int]) -> Iterator[Region]:
        """Join grain tables that touch, so that a link's regions are few; `tables` is sorted."""
        begin = end = -1
        for sector in tables:
            if sector < end:
                self.fail(f"its grain table at sector {sector} lies in another one")
            if sector != end:
                if end >= 0:
                    yield Region(begin, end, "grain tables")
                begin = sector
            end = sector + GT_SIZE
        if end >= 0:
            yield Region(begin, end, "grain tables")


def read_link(path: Path, *, follow_symlink: bool = True) -> SparseLink:
    """Open the link at `path` and check all but its table entries.

    Raises NotFoundError, IntegrityError for what is not a sound link, OSError.
    """
    # Without O_NONBLOCK, opening a FIFO that someone put there would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if not follow_symlink:
        flags |= os.O_NOFOLLOW
        if path.is_symlink():
            raise IntegrityError(
                f"{path} is not a sound VMDK link: it is a symbolic link to somewhere else."
            )
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no VMDK link {path}.") from error
    return SparseLink(path, descriptor)
