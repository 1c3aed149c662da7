"""Write a read-only link as monolithicSparse. Owns the order of bytes in the file, not its name.

    header | descriptor | pad | grains, in order of arrival | tables that hold something | directory

Grains go straight from the caller's buffer to the file. Tables and directory come last, so that
nothing is written twice and a link's size follows from what it holds; header and descriptor fill
the room left at the front. A file without them is no VMDK, so a torn one is not mistaken for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SaltflatError
from converter.vmdk.c_vmdk import (
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SECTOR_LIMIT,
    SPARSE_GDE_EMPTY,
    SPARSE_GTE_EMPTY,
    SPARSE_GTE_ZEROED,
)
from converter.vmdk.descriptor import ParentRef, check_content_id, link_descriptor, render
from converter.vmdk.entries import entries, to_bytes
from converter.vmdk.layout import FRONT_SECTORS, SparseLayout, front
from converter.vmdk.writing import LinkSummary, put, runs

if TYPE_CHECKING:
    from array import array

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = ["LinkSummary", "LinkWriter", "ParentRef"]

_TABLES_PER_WRITE = 512  # 1 MiB


class LinkWriter:
    """Write one link, grain by grain, then `finish()`.

    Grains of zeros take no room: without a parent they are left out, with one they become an entry
    that hides the parent's grain. Memory is one grain table, 2 KiB, per region that was written.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        capacity_bytes: int,
        grain_bytes: int = 65536,
        cid: int,
        long_content_id: str,
        parent: ParentRef | None,
        file_name: str = "link.vmdk",
    ) -> None:
        """Begin a link in `file`: empty, seekable, unbuffered, and nobody else's until the end.

        `capacity_bytes` is a multiple of `grain_bytes`, which is a power of two from 4 to 64 KiB.
        `file_name` is what the link calls itself; no reader of this format looks for it. Raises
        ValueError for sizes and IDs that no link may have, UsageError for names.
        """
        check_content_id(cid, long_content_id)
        if parent is not None:
            check_content_id(parent.cid)
        self._layout = SparseLayout.for_writing(capacity_bytes, grain_bytes)
        self._parent = parent
        self._descriptor = render(
            link_descriptor(
                capacity_bytes,
                cid=cid,
                long_content_id=long_content_id,
                parent=parent,
                file_name=file_name,
            )
        )
        self._file = file
        self.grain_bytes = grain_bytes
        self._zero_grain = bytes(grain_bytes)
        self._tables: dict[int, array[int]] = {}
        self._next_sector = self._layout.round_up(FRONT_SECTORS)
        self._grains = 0
        self._zero_grains = 0
        self._finished = False
        file.seek(self._next_sector * SECTOR)

    def write(self, offset: int, data: Buffer) -> None:
        """Write whole grains at byte `offset` of the disk, both multiples of the grain size.

        Any number of grains, in any order, each once. Raises ValueError for what breaks these
        rules, SaltflatError when the file would pass 2 TiB, OSError.
        """
        if self._finished:
            raise ValueError("write to a finished link")
        view = memoryview(data).cast("B")
        if offset % self.grain_bytes or len(view) % self.grain_bytes:
            raise ValueError(f"{len(view)} bytes at {offset}: not whole grains")
        if offset < 0 or offset + len(view) > self._layout.capacity * SECTOR:
            raise ValueError(f"{len(view)} bytes at {offset}: not within the capacity")
        grain = offset // self.grain_bytes
        for is_zero, run in runs(view, self._zero_grain):
            count = len(run) // self.grain_bytes
            if is_zero:
                self._enter(grain, count, repeat(SPARSE_GTE_ZEROED, count))
                self._zero_grains += count
            else:
                self._append(grain, count, run)
            grain += count

    @property
    def size_bytes(self) -> int:
        """How far the file is written; it only grows."""
        return self._next_sector * SECTOR

    def finish(self) -> LinkSummary:
        """Write tables, directory, header and descriptor; the file is then a complete link.

        Raises SaltflatError when the file would pass 2 TiB, OSError. The file is not synced.
        """
        if self._finished:
            raise ValueError("finish of a finished link")
        self._finished = True
        if self._parent is None:
            self._leave_out_zero_grains()
        directory = entries(repeat(SPARSE_GDE_EMPTY, self._layout.tables))
        indexes = sorted(self._tables)
        self._require_room(len(indexes) * GT_SIZE + self._layout.directory_sectors)
        for begin in range(0, len(indexes), _TABLES_PER_WRITE):
            batch = indexes[begin : begin + _TABLES_PER_WRITE]
            for index in batch:
                directory[index] = self._next_sector
                self._next_sector += GT_SIZE
            put(self._file, b"".join(to_bytes(self._tables[index]) for index in batch))
        header = self._layout.read_only_header(
            directory_sector=self._next_sector, holds_zeroed_grains=self._zero_grains > 0
        )
        directory_bytes = self._layout.directory_sectors * SECTOR
        put(self._file, to_bytes(directory).ljust(directory_bytes, b"\0"))
        self._next_sector += self._layout.directory_sectors
        self._file.seek(0)
        put(self._file, front(header, self._descriptor))
        return LinkSummary(self._grains, self._zero_grains, self.size_bytes)

    def _append(self, grain: int, count: int, run: memoryview) -> None:
        sectors = count * self._layout.grain
        self._require_room(sectors)
        self._enter(
            grain,
            count,
            range(self._next_sector, self._next_sector + sectors, self._layout.grain),
        )
        put(self._file, run)
        self._next_sector += sectors
        self._grains += count

    def _enter(self, grain: int, count: int, sectors: Iterable[int]) -> None:
        """Set the table entries of `count` grains from `grain` on, each for the first time."""
        values = entries(sectors)
        done = 0
        while done < count:
            index, slot = divmod(grain + done, NUM_GTES_PER_GT)
            step = min(NUM_GTES_PER_GT - slot, count - done)
            table = self._tables.get(index)
            if table is None:
                table = self._tables[index] = entries(repeat(SPARSE_GTE_EMPTY, NUM_GTES_PER_GT))
            if any(table[slot : slot + step]):
                raise ValueError(f"a grain in {grain + done}..{grain + done + step - 1} is there")
            table[slot : slot + step] = values[done : done + step]
            done += step

    def _leave_out_zero_grains(self) -> None:
        """Turn entries of zero grains to absent, for below a base there is nothing to hide."""
        for index, table in list(self._tables.items()):
            zeros = table.count(SPARSE_GTE_ZEROED)
            if not zeros:
                continue
            if zeros == NUM_GTES_PER_GT - table.count(SPARSE_GTE_EMPTY):
                del self._tables[index]
                continue
            at = -1
            for _ in range(zeros):
                at = table.index(SPARSE_GTE_ZEROED, at + 1)
                table[at] = SPARSE_GTE_EMPTY
        self._zero_grains = 0

    def _require_room(self, sectors: int) -> None:
        # Entries are 32-bit sector numbers, so everything must begin below the limit.
        if self._next_sector + sectors > SECTOR_LIMIT:
            raise SaltflatError(
                "A VMDK link would grow beyond 2 TiB, which the sparse format cannot address.",
                expected="at most 2 TiB of changed data and tables in one layer",
                hint="Split the layer.",
            )
