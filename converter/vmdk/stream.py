"""Write a disk as streamOptimized. Owns the order of bytes, in both dialects.

In one pass, to a pipe if need be, as the specification has it (VMware, "Virtual Disk Format 5.0",
"Stream-Optimized Compressed Sparse Extents"):

    header | descriptor | pad | (marker, deflated grain)... with each table after its grains |
    directory | footer | end

With the directory in front, as open-vmdk and QEMU write it, where the file can seek:

    header | descriptor | directory | every table | pad | (marker, deflated grain)... | end

Version 3 is what vSphere takes for an import. Grains come in ascending order, which some importers
need.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SaltflatError
from converter.vmdk.c_vmdk import (
    CREATE_TYPE_STREAM_OPTIMIZED,
    GRAIN_MARKER,
    GT_SIZE,
    MARKER_EOS,
    MARKER_FOOTER,
    MARKER_GD,
    MARKER_GT,
    METADATA_MARKER,
    NUM_GTES_PER_GT,
    SECTOR,
    SECTOR_LIMIT,
    SPARSE_EXTENT_HEADER,
    SPARSE_GD_AT_END,
    SPARSE_GDE_EMPTY,
    SPARSE_GTE_EMPTY,
    SPARSE_GTE_ZEROED,
    GrainMarker,
    MetadataMarker,
    SparseExtentHeader,
)
from converter.vmdk.compression import GRAINS_PER_BATCH, Compressor
from converter.vmdk.descriptor import ParentRef, check_content_id, link_descriptor, render
from converter.vmdk.entries import entries, to_bytes
from converter.vmdk.layout import FRONT_SECTORS, SparseLayout, front
from converter.vmdk.writing import Ascending, LinkSummary, put

if TYPE_CHECKING:
    from array import array

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

GRAIN_BYTES = 65536  # the one size that every reader of this format takes
_ZERO_GRAIN = bytes(GRAIN_BYTES)


class StreamWriter:
    """Write one disk, grain after grain, then `finish()`.

    Memory is the directory, one table, and the few grains that wait to be deflated. Grains of zeros
    take no room: without a parent they are left out, with one they become an entry that hides the
    parent's grain.
    """

    grain_bytes = GRAIN_BYTES

    def __init__(
        self,
        file: BinaryIO,
        *,
        capacity_bytes: int,
        cid: int,
        long_content_id: str,
        parent: ParentRef | None = None,
        file_name: str = "disk.vmdk",
        compressor: Compressor | None = None,
        directory_in_front: bool = False,
    ) -> None:
        """Write the front to `file`, which is only ever appended to.

        With the directory in front it is gone back to as well: `file` is then empty and seekable,
        and begins with zeros until it is whole. `capacity_bytes` is a multiple of 64 KiB. Raises
        ValueError for sizes and IDs that no disk may have, UsageError for names, OSError.
        """
        check_content_id(cid, long_content_id)
        if parent is not None:
            check_content_id(parent.cid)
        self._file = file
        self._compressor = compressor or Compressor()
        self._layout = SparseLayout.for_writing(capacity_bytes, GRAIN_BYTES)
        self._rules = Ascending(capacity_bytes, GRAIN_BYTES)
        self._has_parent = parent is not None
        self._directory = entries(repeat(SPARSE_GDE_EMPTY, self._layout.tables))
        self._table: array[int] | None = None
        self._table_index = -1
        self._batch: list[tuple[int, bytes | None]] = []
        self._waiting: deque[tuple[Sequence[int], Callable[[], list[bytes]]]] = deque()
        self._grains = self._zero_grains = 0
        self._sector = 0
        self._in_front = directory_in_front
        self._descriptor = render(
            link_descriptor(
                capacity_bytes,
                cid=cid,
                long_content_id=long_content_id,
                parent=parent,
                file_name=file_name,
                create_type=CREATE_TYPE_STREAM_OPTIMIZED,
            )
        )
        if self._in_front:
            self._sector = self._header(FRONT_SECTORS).overHead
            file.seek(self._sector * SECTOR)
            first_table = FRONT_SECTORS + self._layout.directory_sectors
            for index in range(self._layout.tables):
                self._directory[index] = first_table + index * GT_SIZE
        else:
            self._put(self._front(SPARSE_GD_AT_END))

    def write(self, offset: int, data: Buffer) -> None:
        """Write whole grains at byte `offset` of the disk, as `DiskWriter` says."""
        view = self._rules.take(offset, data)
        for at in range(0, len(view), GRAIN_BYTES):
            grain = view[at : at + GRAIN_BYTES]
            number = (offset + at) // GRAIN_BYTES
            if not _ZERO_GRAIN.startswith(grain):
                self._batch.append((number, bytes(grain)))
            elif self._has_parent:
                self._batch.append((number, None))
            if len(self._batch) >= GRAINS_PER_BATCH:
                self._end_batch()

    def finish(self) -> LinkSummary:
        """Write what is left, as `DiskWriter` says."""
        self._end_batch()
        while self._waiting:
            self._emit(*self._waiting.popleft())
        self._end_table()
        if self._in_front:
            self._mark(MARKER_EOS, 0)
            self._file.seek(0)
            put(self._file, self._front(FRONT_SECTORS))
        else:
            self._finish_with_footer()
        return LinkSummary(self._grains, self._zero_grains, self._sector * SECTOR)

    def _finish_with_footer(self) -> None:
        self._mark(MARKER_GD, self._layout.directory_sectors)
        directory_sector = self._sector
        self._put(self._directory_bytes())
        self._mark(MARKER_FOOTER, 1)
        self._put(SPARSE_EXTENT_HEADER.pack(*self._header(directory_sector)))
        self._mark(MARKER_EOS, 0)

    def _header(self, directory_sector: int) -> SparseExtentHeader:
        return self._layout.stream_header(
            directory_sector=directory_sector,
            holds_zeroed_grains=self._has_parent,
            tables_in_front=self._in_front,
        )

    def _front(self, directory_sector: int) -> bytes:
        """Return all before the tables that were written, or before the first grain."""
        header = self._header(directory_sector)
        begin = front(header, self._descriptor)
        if self._in_front:
            return begin + self._directory_bytes()
        return begin.ljust(header.overHead * SECTOR, b"\0")

    def _directory_bytes(self) -> bytes:
        return to_bytes(self._directory).ljust(self._layout.directory_sectors * SECTOR, b"\0")

    def _end_batch(self) -> None:
        """Hand the batch to the compressor, and write those that it has done, in order."""
        if self._batch:
            numbers = [number if grain is not None else ~number for number, grain in self._batch]
            begun = self._compressor.begin([grain for _, grain in self._batch if grain is not None])
            self._batch = []
            self._waiting.append((numbers, begun))
        while len(self._waiting) >= self._compressor.batches_max:
            self._emit(*self._waiting.popleft())

    def _emit(self, numbers: Sequence[int], begun: Callable[[], list[bytes]]) -> None:
        """Write a batch: `numbers` of grains, those of zeros inverted."""
        streams = iter(begun())
        for number in numbers:
            self._write_grain(max(number, ~number), next(streams) if number >= 0 else None)

    def _write_grain(self, number: int, packed: bytes | None) -> None:
        index, slot = divmod(number, NUM_GTES_PER_GT)
        if index != self._table_index:
            self._end_table()
            self._table_index = index
        if self._table is None:
            self._table = entries(repeat(SPARSE_GTE_EMPTY, NUM_GTES_PER_GT))
        if packed is None:
            self._table[slot] = SPARSE_GTE_ZEROED
            self._zero_grains += 1
            return
        self._table[slot] = self._sector
        self._grains += 1
        marker = GRAIN_MARKER.pack(*GrainMarker(lba=number * self._layout.grain, size=len(packed)))
        size = len(marker) + len(packed)
        self._put(b"".join((marker, packed, bytes(-size % SECTOR))))

    def _end_table(self) -> None:
        if self._table is None:
            return
        table = to_bytes(self._table)
        self._table = None
        if self._in_front:
            self._file.seek(self._directory[self._table_index] * SECTOR)
            put(self._file, table)
            self._file.seek(self._sector * SECTOR)
            return
        self._mark(MARKER_GT, GT_SIZE)
        self._directory[self._table_index] = self._sector
        self._put(table)

    def _mark(self, kind: int, sectors: int) -> None:
        self._put(METADATA_MARKER.pack(*MetadataMarker(numSectors=sectors, size=0, type=kind)))

    def _put(self, data: bytes) -> None:
        if self._sector + len(data) // SECTOR > SECTOR_LIMIT:
            raise SaltflatError(
                "The disk would grow beyond 2 TiB, which the format cannot address.",
                expected="at most 2 TiB of compressed data",
            )
        put(self._file, data)
        self._sector += len(data) // SECTOR
