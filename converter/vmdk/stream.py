"""Write a disk as streamOptimized, in one pass, to a pipe if need be. Owns the order of bytes.

    header | descriptor | pad | (marker, deflated grain)... with each table after its grains |
    directory | footer | end

It is the dialect of the specification, whose header says that the directory is in the footer
(VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents"); version 3 is what
vSphere takes for an import. Grains come in ascending order, which some importers need.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
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
)
from converter.vmdk.descriptor import ParentRef, check_content_id, link_descriptor, render
from converter.vmdk.entries import entries, to_bytes
from converter.vmdk.layout import FRONT_SECTORS, SparseLayout, front

if TYPE_CHECKING:
    from array import array

GRAIN_BYTES = 65536  # the one size that every reader of this format takes
_ZERO_GRAIN = bytes(GRAIN_BYTES)
_LEVEL = 6


def deflated(data: bytes | memoryview) -> bytes:
    """Return a zlib stream, which is what readers take, not the bare one of the specification."""
    return zlib.compress(data, _LEVEL)


class StreamWriter:
    """Write one disk, grain after grain, then `finish()`. Memory is the directory and one table.

    Grains of zeros take no room: without a parent they are left out, with one they become an entry
    that hides the parent's grain.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        capacity_bytes: int,
        cid: int,
        long_content_id: str,
        parent: ParentRef | None = None,
        file_name: str = "disk.vmdk",
        compress: Callable[[bytes | memoryview], bytes] = deflated,
    ) -> None:
        """Write the front to `file`, which is only ever appended to.

        `capacity_bytes` is a multiple of 64 KiB. Raises ValueError for sizes and IDs that no disk
        may have, UsageError for names, OSError.
        """
        check_content_id(cid, long_content_id)
        if parent is not None:
            check_content_id(parent.cid)
        self._file = file
        self._compress = compress
        self._layout = SparseLayout.for_writing(capacity_bytes, GRAIN_BYTES)
        self._has_parent = parent is not None
        self._directory = entries(repeat(SPARSE_GDE_EMPTY, self._layout.tables))
        self._table: array[int] | None = None
        self._table_index = -1
        self._next_grain = 0
        self._sector = 0
        descriptor = link_descriptor(
            capacity_bytes,
            cid=cid,
            long_content_id=long_content_id,
            parent=parent,
            file_name=file_name,
            create_type=CREATE_TYPE_STREAM_OPTIMIZED,
        )
        header = self._layout.stream_header(
            directory_sector=SPARSE_GD_AT_END, holds_zeroed_grains=self._has_parent
        )
        first = self._layout.round_up(FRONT_SECTORS)
        self._put(front(header, render(descriptor)).ljust(first * SECTOR, b"\0"))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write whole grains at byte `offset` of the disk, each behind all that were written.

        Raises ValueError for what breaks these rules, SaltflatError when the file would pass 2 TiB,
        OSError.
        """
        view = memoryview(data).cast("B")
        if offset % GRAIN_BYTES or len(view) % GRAIN_BYTES:
            raise ValueError(f"{len(view)} bytes at {offset}: not whole grains")
        grain = offset // GRAIN_BYTES
        if grain < self._next_grain or offset + len(view) > self._layout.capacity * SECTOR:
            raise ValueError(f"{len(view)} bytes at {offset}: not ascending, or beyond the end")
        for at in range(0, len(view), GRAIN_BYTES):
            self._write_grain(grain, view[at : at + GRAIN_BYTES])
            grain += 1

    def finish(self) -> int:
        """Write what is left; return the size of the file in bytes. Raises as `write` does."""
        self._end_table()
        directory = to_bytes(self._directory).ljust(self._layout.directory_sectors * SECTOR, b"\0")
        self._mark(MARKER_GD, self._layout.directory_sectors)
        directory_sector = self._sector
        self._put(directory)
        self._mark(MARKER_FOOTER, 1)
        footer = self._layout.stream_header(
            directory_sector=directory_sector, holds_zeroed_grains=self._has_parent
        )
        self._put(SPARSE_EXTENT_HEADER.pack(*footer))
        self._mark(MARKER_EOS, 0)
        return self._sector * SECTOR

    def _write_grain(self, grain: int, data: memoryview) -> None:
        self._next_grain = grain + 1
        is_zero = _ZERO_GRAIN.startswith(data)
        if is_zero and not self._has_parent:
            return
        index, slot = divmod(grain, NUM_GTES_PER_GT)
        if index != self._table_index:
            self._end_table()
            self._table_index = index
        if self._table is None:
            self._table = entries(repeat(SPARSE_GTE_EMPTY, NUM_GTES_PER_GT))
        if is_zero:
            self._table[slot] = SPARSE_GTE_ZEROED
            return
        self._table[slot] = self._sector
        packed = self._compress(data)
        marker = GRAIN_MARKER.pack(*GrainMarker(lba=grain * self._layout.grain, size=len(packed)))
        size = len(marker) + len(packed)
        self._put(b"".join((marker, packed, bytes(-size % SECTOR))))

    def _end_table(self) -> None:
        if self._table is None:
            return
        self._mark(MARKER_GT, GT_SIZE)
        self._directory[self._table_index] = self._sector
        self._put(to_bytes(self._table))
        self._table = None

    def _mark(self, kind: int, sectors: int) -> None:
        self._put(METADATA_MARKER.pack(*MetadataMarker(numSectors=sectors, size=0, type=kind)))

    def _put(self, data: bytes) -> None:
        if self._sector + len(data) // SECTOR > SECTOR_LIMIT:
            raise SaltflatError(
                "The disk would grow beyond 2 TiB, which the format cannot address.",
                expected="at most 2 TiB of compressed data",
            )
        view = memoryview(data)
        while view:  # a pipe or an unbuffered file may take less than it was given
            view = view[self._file.write(view) :]
        self._sector += len(data) // SECTOR
