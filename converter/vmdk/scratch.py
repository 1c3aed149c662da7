"""Write links that a VM may write to: the scratch child of a chain, a disk, links with content.

QEMU reads through an absent table but cannot write through it, and keeps two copies of each. So a
writable link has every table in place, twice. What is zero in it is a hole in the file: tables of
nothing, and the blank parts of the few grains that a new disk has.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SaltflatError
from converter.vmdk.c_vmdk import (
    CREATE_TYPE_MONOLITHIC_SPARSE,
    EXTENT_ACCESS_RW,
    EXTENT_TYPE_SPARSE,
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SECTOR_LIMIT,
    SPARSE_GTE_EMPTY,
    SPARSE_GTE_ZEROED,
)
from converter.vmdk.descriptor import (
    Descriptor,
    Extent,
    ParentRef,
    check_content_id,
    disk_data_base,
    render,
)
from converter.vmdk.entries import entries, to_bytes
from converter.vmdk.layout import SparseLayout, front
from converter.vmdk.writing import LinkSummary, put_at

if TYPE_CHECKING:
    from array import array

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_GRAIN_BYTES = 65536


def write_scratch(
    file: BinaryIO,
    *,
    capacity_bytes: int,
    grain_bytes: int = _GRAIN_BYTES,
    cid: int,
    parent: ParentRef,
    file_name: str = "scratch.vmdk",
) -> None:
    """Make the empty `file` a writable link on `parent`, of at least its capacity.

    Behind the parent's end a larger child reads as zeros. VMware wants equal capacities in a chain;
    QEMU does not. `parent.file_name` is a file in the folder where the link will stand. Raises
    ValueError for sizes and IDs that no link may have, UsageError for names, OSError.
    """
    check_content_id(parent.cid)
    layout = SparseLayout.for_writing(capacity_bytes, grain_bytes)
    end = layout.writable_header().overHead
    _finish(file, layout, _descriptor(layout, cid, parent, file_name), {}, end_sector=end)


def write_disk(
    file: BinaryIO,
    *,
    capacity_bytes: int,
    cid: int,
    writes: Iterable[tuple[int, bytes | memoryview]],
    file_name: str,
) -> None:
    """Make the empty `file` a writable disk without a parent that holds `writes`.

    Those are (byte offset, bytes), whole grains of 64 KiB, each grain once. Raises ValueError for
    what breaks this and for sizes and IDs that no disk may have, UsageError for names, OSError.
    """
    writer = WritableWriter(file, capacity_bytes=capacity_bytes, cid=cid, file_name=file_name)
    for offset, data in writes:
        writer.write(offset, data)
    writer.finish()


class WritableWriter:
    """Write one writable link that has content: grain by grain, then `finish()`.

    Grains of zeros take no room: without a parent they are left out, with one they become an entry
    that hides the parent's grain. Memory is one grain table, 2 KiB, per region that was written.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        capacity_bytes: int,
        grain_bytes: int = _GRAIN_BYTES,
        cid: int,
        parent: ParentRef | None = None,
        file_name: str,
    ) -> None:
        """Begin a link in `file`: empty, seekable, and nobody else's until the end.

        `capacity_bytes` is a multiple of `grain_bytes`. Raises ValueError for sizes and IDs that no
        link may have, UsageError for names.
        """
        if parent is not None:
            check_content_id(parent.cid)
        self._file = file
        self._layout = SparseLayout.for_writing(capacity_bytes, grain_bytes)
        self.grain_bytes = grain_bytes
        self._zero_grain = bytes(grain_bytes)
        self._capacity_bytes = capacity_bytes
        self._descriptor = _descriptor(self._layout, cid, parent, file_name)
        self._has_parent = parent is not None
        self._sector = self._layout.writable_header().overHead
        self._tables: dict[int, array[int]] = {}
        self._grains = self._zero_grains = 0

    def write(self, offset: int, data: Buffer) -> None:
        """Write whole grains at byte `offset`, as `DiskWriter` says, but in any order."""
        view = memoryview(data).cast("B")
        if offset % self.grain_bytes or len(view) % self.grain_bytes:
            raise ValueError(f"{len(view)} bytes at {offset}: not whole grains")
        if not 0 <= offset <= offset + len(view) <= self._capacity_bytes:
            raise ValueError(f"{len(view)} bytes at {offset}: not within the capacity")
        for begin in range(0, len(view), self.grain_bytes):
            self._write_grain(offset + begin, view[begin : begin + self.grain_bytes])

    def finish(self) -> LinkSummary:
        """Write header, descriptor and tables, as `DiskWriter` says."""
        _finish(
            self._file,
            self._layout,
            self._descriptor,
            self._tables,
            end_sector=self._sector,
            holds_zeroed_grains=self._zero_grains > 0,
        )
        return LinkSummary(self._grains, self._zero_grains, self._sector * SECTOR)

    def _write_grain(self, offset: int, grain: memoryview) -> None:
        is_zero = self._zero_grain.startswith(grain)
        if is_zero and not self._has_parent:
            return
        index, slot = divmod(offset // self.grain_bytes, NUM_GTES_PER_GT)
        table = self._tables.get(index)
        if table is None:
            table = self._tables[index] = entries(repeat(SPARSE_GTE_EMPTY, NUM_GTES_PER_GT))
        if table[slot] != SPARSE_GTE_EMPTY:
            raise ValueError(f"the grain at {offset} is there already")
        if is_zero:
            table[slot] = SPARSE_GTE_ZEROED
            self._zero_grains += 1
            return
        if self._sector + self._layout.grain > SECTOR_LIMIT:
            raise SaltflatError(
                "A VMDK would grow beyond 2 TiB, which the sparse format cannot address.",
                expected="at most 2 TiB of data and tables in one file",
            )
        table[slot] = self._sector
        put_at(self._file, self._sector, grain)
        self._sector += self._layout.grain
        self._grains += 1


def _descriptor(layout: SparseLayout, cid: int, parent: ParentRef | None, file_name: str) -> bytes:
    check_content_id(cid)
    extent = Extent(EXTENT_ACCESS_RW, layout.capacity, EXTENT_TYPE_SPARSE, file_name)
    # No long content ID: the VM's first write changes the CID, and nothing would change the other.
    ddb = disk_data_base(layout.capacity * SECTOR)
    return render(Descriptor(cid, CREATE_TYPE_MONOLITHIC_SPARSE, (extent,), parent, ddb))


def _finish(
    file: BinaryIO,
    layout: SparseLayout,
    descriptor: bytes,
    tables: dict[int, array[int]],
    *,
    end_sector: int,
    holds_zeroed_grains: bool = False,
) -> None:
    """Write all but the grains; `tables` are those that hold something."""
    header = layout.writable_header(holds_zeroed_grains=holds_zeroed_grains)
    put_at(file, 0, front(header, descriptor))
    for directory in (header.rgdOffset, header.gdOffset):
        first_table = directory + layout.directory_sectors
        sectors = range(first_table, first_table + layout.tables * GT_SIZE, GT_SIZE)
        put_at(file, directory, to_bytes(entries(sectors)))
        for index, table in tables.items():
            put_at(file, sectors[index], to_bytes(table))
    file.truncate(end_sector * SECTOR)
