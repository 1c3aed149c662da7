"""Check one link down to the last sector. Owns the rule that every sector has exactly one use.

More than a reader needs: two grains in one place, sectors that nothing points to, table copies that
differ, and anything but zeros in the padding are faults here. Parents are not looked at.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from converter.vmdk.c_vmdk import (
    NUM_GTES_PER_GT,
    SECTOR,
    SECTOR_LIMIT,
    SPARSE_EXTENT_HEADER,
    SPARSE_GDE_EMPTY,
    SPARSE_GTE_EMPTY,
    SPARSEFLAG_USE_REDUNDANT,
)
from converter.vmdk.hosted import SparseExtent
from converter.vmdk.reader import read_sparse_link


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What a sound link holds: grains with data, grains of zeros, grain tables without copies.

    `parent_cid` is None for a base link.
    """

    grains: int
    zero_grains: int
    tables: int
    size_bytes: int
    capacity_bytes: int
    cid: int
    parent_cid: int | None


def check_link(path: Path) -> LinkReport:
    """Check every sector and table entry of the link at `path`, and count.

    Raises NotFoundError, IntegrityError that names the first fault, OSError. Memory: one byte per
    grain that the file holds.
    """
    with read_sparse_link(path) as link:
        extent = link.sparse_extent()
        _check_front(extent)
        if extent.header.flags & SPARSEFLAG_USE_REDUNDANT:
            _check_copies(extent)
        grains, zero_grains = _check_grains(extent)
        descriptor = link.descriptor
        parent = descriptor.parent
        return LinkReport(
            grains=grains,
            zero_grains=zero_grains,
            tables=sum(sector != SPARSE_GDE_EMPTY for sector in extent.directory),
            size_bytes=extent.file.size_bytes,
            capacity_bytes=link.capacity_bytes,
            cid=descriptor.cid,
            parent_cid=None if parent is None else parent.cid,
        )


_CID_DIGITS = 8


def _check_front(extent: SparseExtent) -> None:
    header = extent.header
    if header.uncleanShutdown:
        extent.file.fail("whoever wrote it last did not close it")
    if extent.file.read_at(0, SECTOR) != SPARSE_EXTENT_HEADER.pack(*header):
        extent.file.fail("the padding of its header is not zero")
    text = extent.file.read_at(header.descriptorOffset * SECTOR, header.descriptorSize * SECTOR)
    # QEMU writes a new CID without leading zeros into a writable link, and leaves the text's old
    # end behind the new one's NUL: no more bytes than a CID can get shorter.
    allowed = _CID_DIGITS - 1 if header.flags & SPARSEFLAG_USE_REDUNDANT else 0
    if len(text.partition(b"\0")[2].rstrip(b"\0")) > allowed:
        extent.file.fail("something stands behind its descriptor's text")
    if header.overHead % header.grainSize:
        extent.file.fail(f"its first grain at sector {header.overHead} is not aligned")
    end = 0
    for region in extent.regions:
        if region.begin >= header.overHead:
            break
        if region.begin != end:
            extent.file.fail(f"nothing points to sector {end}")
        end = region.end
    if not end <= header.overHead < end + header.grainSize:
        extent.file.fail(
            f"its metadata ends at sector {end}, its first grain is at {header.overHead}"
        )
    if extent.file.read_at(end * SECTOR, (header.overHead - end) * SECTOR).strip(b"\0"):
        extent.file.fail(f"the padding at sector {end} is not zero")


def _check_copies(extent: SparseExtent) -> None:
    copies = extent.read_directory(extent.header.rgdOffset)
    for index, (sector, copy) in enumerate(zip(extent.directory, copies, strict=True)):
        if (sector == SPARSE_GDE_EMPTY) != (copy == SPARSE_GDE_EMPTY):
            extent.file.fail(f"grain table {index} and its copy are not both there")
        if sector != SPARSE_GDE_EMPTY and extent.read_table(index) != extent.read_entries(
            copy, NUM_GTES_PER_GT
        ):
            extent.file.fail(f"grain table {index} and its copy differ")


def _check_grains(extent: SparseExtent) -> tuple[int, int]:
    """Check all table entries, and that grains and metadata fill the file. Count both kinds."""
    header = extent.header
    # What lies further on has no use, and is not to cost the memory of a mark for each grain.
    if extent.file.sectors > SECTOR_LIMIT + header.grainSize:
        extent.file.fail(
            f"its {extent.file.sectors} sectors are more than table entries can point to"
        )
    slots = (extent.file.sectors - header.overHead) // header.grainSize
    grains = zero_grains = 0
    # An anonymous map is paged in where it is written, so a huge hole in a hostile file costs none.
    with mmap.mmap(-1, slots + 1) as taken:
        for index, sector in enumerate(extent.directory):
            if sector == SPARSE_GDE_EMPTY:
                continue
            table = extent.read_table(index)
            in_disk = min(NUM_GTES_PER_GT, extent.layout.grains - index * NUM_GTES_PER_GT)
            if any(table[in_disk:]):
                extent.file.fail(f"grain table {index} has entries beyond the capacity")
            for slot, entry in enumerate(table):
                if entry == SPARSE_GTE_EMPTY:
                    continue
                if extent.is_zero_entry(entry):
                    zero_grains += 1
                    continue
                extent.check_entry(index, slot, entry)
                place, odd_sectors = divmod(entry - header.overHead, header.grainSize)
                if odd_sectors:
                    extent.file.fail(f"the grain at sector {entry} is not aligned")
                if taken[place]:
                    extent.file.fail(f"two table entries point to the grain at sector {entry}")
                taken[place] = 1
                grains += 1
        used = grains * header.grainSize + sum(
            region.end - region.begin
            for region in extent.regions
            if region.begin >= header.overHead
        )
        if used != extent.file.sectors - header.overHead:
            first = header.overHead + taken.find(b"\0") * header.grainSize
            extent.file.fail(
                f"{extent.file.sectors - header.overHead - used} sectors are unused, about {first}"
            )
    return grains, zero_grains
