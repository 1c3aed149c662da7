"""Write links that a VM may write to: the scratch child of a chain, and a whole disk.

QEMU reads through an absent table but cannot write through it, and keeps two copies of each. So a
writable link has every table in place, twice. What is zero in it is a hole in the file: tables of
nothing, and the blank parts of the few grains that a new disk has.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from converter.vmdk.c_vmdk import (
    CREATE_TYPE_MONOLITHIC_SPARSE,
    EXTENT_ACCESS_RW,
    EXTENT_TYPE_SPARSE,
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SPARSE_GTE_EMPTY,
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
from converter.vmdk.writing import put_at

if TYPE_CHECKING:
    from array import array

_GRAIN_BYTES = 65536
_ZERO_GRAIN = bytes(_GRAIN_BYTES)


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
    layout = SparseLayout.for_writing(capacity_bytes, _GRAIN_BYTES)
    sector = layout.writable_header().overHead
    tables: dict[int, array[int]] = {}
    for offset, data in writes:
        if offset % _GRAIN_BYTES or len(data) % _GRAIN_BYTES:
            raise ValueError(f"{len(data)} bytes at {offset}: not whole grains")
        if not 0 <= offset <= offset + len(data) <= capacity_bytes:
            raise ValueError(f"{len(data)} bytes at {offset}: not within the capacity")
        for begin in range(0, len(data), _GRAIN_BYTES):
            grain = data[begin : begin + _GRAIN_BYTES]
            if _ZERO_GRAIN.startswith(grain):
                continue
            index, slot = divmod((offset + begin) // _GRAIN_BYTES, NUM_GTES_PER_GT)
            if index not in tables:
                tables[index] = entries(repeat(SPARSE_GTE_EMPTY, NUM_GTES_PER_GT))
            if tables[index][slot]:
                raise ValueError(f"the grain at {offset + begin} is there already")
            tables[index][slot] = sector
            put_at(file, sector, grain)
            sector += layout.grain
    descriptor = _descriptor(layout, cid, None, file_name)
    _finish(file, layout, descriptor, tables, end_sector=sector)


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
) -> None:
    """Write all but the grains; `tables` are those that hold something."""
    header = layout.writable_header()
    put_at(file, 0, front(header, descriptor))
    for directory in (header.rgdOffset, header.gdOffset):
        first_table = directory + layout.directory_sectors
        sectors = range(first_table, first_table + layout.tables * GT_SIZE, GT_SIZE)
        put_at(file, directory, to_bytes(entries(sectors)))
        for index, table in tables.items():
            put_at(file, sectors[index], to_bytes(table))
    file.truncate(end_sector * SECTOR)
