"""Does what a loaded state counts agree with its bitmaps, and they with its tree? Pure.

A writer goes by counters without a second look, so a state with wrong ones would end in an error
far from its cause, or in a file system that is not sound. Cheap: whole bitmaps are compared as
integers, and nothing is read for a file but its type.
"""

from __future__ import annotations

from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Sequence
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import INODES_PER_GROUP

_INODES = (1 << INODES_PER_GROUP) - 1
_HALF = INODES_PER_GROUP // 2


def check_counters(filesystem: FileSystem) -> None:
    """See that every group counts what its bitmaps say, and that unused numbers are unused.

    Raises ValueError or LookupError, whose text says what is wrong.
    """
    allocator, geometry = filesystem.allocator, filesystem.geometry
    inodes = {
        group: int.from_bytes(bitmap, "little") for group, bitmap in allocator.inode_bitmaps.items()
    }
    if not inodes.keys() == allocator.used_inodes.keys() == allocator.highest_inode.keys():
        raise ValueError("its inode bitmaps and counters disagree")
    counted = _count_directories(filesystem)
    for group in range(geometry.groups):
        if allocator.free_blocks[group] != _free_blocks(filesystem, group):
            raise ValueError(f"block group {group} counts other blocks than are free")
        if allocator.used_directories.get(group, 0) != counted.get(group, 0):
            raise ValueError(f"block group {group} counts other directories than it has")
    if allocator.frontier < geometry.data_start:
        raise ValueError("it hands out blocks of metadata")
    for group, bitmap in allocator.block_bitmaps.items():
        if _used_behind_frontier(filesystem, group, bitmap):
            raise ValueError("it hands out blocks that are in use")
    for group, bits in inodes.items():
        used = bits & _INODES
        if bits | _INODES != (1 << 8 * c.BLOCK_SIZE) - 1:
            raise ValueError(f"block group {group} has inodes beyond its last")
        if allocator.used_inodes[group] != used.bit_count():
            raise ValueError(f"block group {group} counts other inodes than are in use")
        if not used.bit_length() <= allocator.highest_inode[group]:
            raise ValueError(f"block group {group} has inodes in use where none were ever")
    directories, others = allocator.directories, allocator.others
    if geometry.groups == 1:
        apart = directories.index <= _HALF <= others.index
    else:
        apart = directories.group != others.group
    if not apart:
        raise ValueError("it hands out the same inodes to directories and to other files")
    _check_unused(inodes, directories, _HALF if geometry.groups == 1 else None)
    _check_unused(inodes, others, None)
    last = max(directories.group, others.group)
    if any(group > last for group in inodes):
        raise ValueError("it has inodes behind those that it hands out")


def _free_blocks(filesystem: FileSystem, group: int) -> int:
    geometry = filesystem.geometry
    size = geometry.group_blocks(group)
    bitmap = filesystem.allocator.block_bitmaps.get(group)
    if bitmap is None:
        return size - (geometry.backup_used_blocks if group in geometry.backup_groups else 0)
    bits = int.from_bytes(bitmap, "little")
    return size - (bits & ((1 << size) - 1)).bit_count()


def _used_behind_frontier(filesystem: FileSystem, group: int, bitmap: bytes | bytearray) -> int:
    """Return the bits of what is in use behind the frontier and is no copy of the superblock."""
    geometry = filesystem.geometry
    size = geometry.group_blocks(group)
    first = max(0, filesystem.allocator.frontier - group * c.BLOCKS_PER_GROUP)
    copies = geometry.backup_used_blocks if group in geometry.backup_groups else 0
    used = int.from_bytes(bitmap, "little") & ((1 << size) - 1)
    return used >> first & ~(((1 << copies) - 1) >> first)


def _count_directories(filesystem: FileSystem) -> dict[int, int]:
    found: dict[int, int] = {}
    for node in filesystem.tree.directories:
        group = (node - 1) // INODES_PER_GROUP
        found[group] = found.get(group, 0) + 1
    return found


def _check_unused(inodes: dict[int, int], sequence: Sequence, limit: int | None) -> None:
    """See that the numbers that `sequence` hands out next, in the group at hand, are free."""
    used = inodes.get(sequence.group, 0) & _INODES
    if limit is not None:
        used &= (1 << limit) - 1
    if used >> sequence.index:
        raise ValueError("it hands out an inode that is in use")
