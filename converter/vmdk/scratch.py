"""Write an empty writable child: what a VM changes while it runs. Owns nothing of its content.

QEMU reads through an absent table but cannot write through it, and keeps two copies of each. So a
scratch link has every table in place, twice; all are zero, so they are holes in the file.
"""

from __future__ import annotations

from typing import BinaryIO

from converter.vmdk.c_vmdk import (
    CREATE_TYPE_MONOLITHIC_SPARSE,
    EXTENT_ACCESS_RW,
    EXTENT_TYPE_SPARSE,
    GT_SIZE,
    SECTOR,
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


def write_scratch(
    file: BinaryIO,
    *,
    capacity_bytes: int,
    grain_bytes: int = 65536,
    cid: int,
    parent: ParentRef,
    file_name: str = "scratch.vmdk",
) -> None:
    """Make the empty `file` a writable link on `parent`, of at least its capacity.

    Behind the parent's end a larger child reads as zeros. VMware wants equal capacities in a chain;
    QEMU does not. `parent.file_name` is a file in the folder where the link will stand. Raises
    ValueError for sizes and IDs that no link may have, UsageError for names, OSError.
    """
    check_content_id(cid)
    check_content_id(parent.cid)
    layout = SparseLayout.for_writing(capacity_bytes, grain_bytes)
    header = layout.writable_header()
    extent = Extent(EXTENT_ACCESS_RW, layout.capacity, EXTENT_TYPE_SPARSE, file_name)
    # No long content ID: the VM's first write changes the CID, and nothing would change the other.
    text = render(
        Descriptor(
            cid,
            CREATE_TYPE_MONOLITHIC_SPARSE,
            (extent,),
            parent,
            disk_data_base(capacity_bytes),
        )
    )
    _write_at(file, 0, front(header, text))
    for directory in (header.rgdOffset, header.gdOffset):
        first_table = directory + layout.directory_sectors
        sectors = range(first_table, first_table + layout.tables * GT_SIZE, GT_SIZE)
        _write_at(file, directory, to_bytes(entries(sectors)))
    file.truncate(header.overHead * SECTOR)


def _write_at(file: BinaryIO, sector: int, data: bytes) -> None:
    file.seek(sector * SECTOR)
    view = memoryview(data)
    while view:  # an unbuffered file may take less than it was given
        view = view[file.write(view) :]
