"""Superblock and group descriptors read back. Owns which file systems are ours, and their counters.

Only what this package writes is taken: addresses follow from the capacity (`Geometry`), so nothing
in a hostile disk can make two tables overlap. What may vary are identity, journal and counters;
given those, every byte is determined, so the check is to encode them again and compare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from converter.errors import IntegrityError, UsageError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Allocator, Sequence
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import INODES_PER_GROUP, Geometry
from converter.ext4.inode import Inode
from converter.ext4.superblock import Identity, encode_descriptors, encode_superblock

Read = Callable[[int, int], bytes]  # byte offset and length on the disk -> exactly these bytes

# Fields of SUPERBLOCK that say what may vary, and those whose faults deserve a name.
_S_FREE_BLOCKS_COUNT_LO, _S_FREE_INODES_COUNT = 3, 4
_S_BLOCKS_COUNT_LO, _S_MAGIC, _S_STATE = 1, 15, 16
_S_FEATURE_COMPAT, _S_UUID, _S_VOLUME_NAME, _S_HASH_SEED = 28, 31, 32, 42


class GroupDescriptor(NamedTuple):
    """struct ext4_group_desc under its own names."""

    bg_block_bitmap_lo: int
    bg_inode_bitmap_lo: int
    bg_inode_table_lo: int
    bg_free_blocks_count_lo: int
    bg_free_inodes_count_lo: int
    bg_used_dirs_count_lo: int
    bg_flags: int
    bg_exclude_bitmap_lo: int
    bg_block_bitmap_csum_lo: int
    bg_inode_bitmap_csum_lo: int
    bg_itable_unused_lo: int


class Volume(NamedTuple):
    """A file system whose superblock, descriptors and their copies are sound and agree.

    `journal` is the journal's inode as it has to be, None without one.
    """

    geometry: Geometry
    identity: Identity
    groups: tuple[GroupDescriptor, ...]
    journal: Inode | None


def read_volume(read: Read, capacity_bytes: int) -> Volume:
    """Read superblock, descriptors and all their copies from a disk of `capacity_bytes`.

    Raises IntegrityError that names the first fault, and what `read` raises.
    """
    if capacity_bytes < c.SUPERBLOCK_OFFSET + c.SUPERBLOCK_SIZE:
        raise IntegrityError(f"A disk of {capacity_bytes} bytes holds no file system.")
    raw = read(c.SUPERBLOCK_OFFSET, c.SUPERBLOCK_SIZE)
    fields = c.SUPERBLOCK.unpack(raw)
    if fields[_S_MAGIC] != c.EXT4_SUPER_MAGIC:
        raise IntegrityError(
            f"The disk has no ext4 file system: its magic number is {fields[_S_MAGIC]:#06x}.",
            expected=f"{c.EXT4_SUPER_MAGIC:#06x}",
        )
    if fields[_S_STATE] != c.EXT4_VALID_FS:
        raise IntegrityError(
            f"The file system was not unmounted cleanly: s_state is {fields[_S_STATE]}.",
            expected=f"{c.EXT4_VALID_FS}",
            hint="A disk that a machine has written to is no longer the image's.",
        )
    if fields[_S_BLOCKS_COUNT_LO] * c.BLOCK_SIZE != capacity_bytes:
        raise IntegrityError(
            f"The superblock counts {fields[_S_BLOCKS_COUNT_LO]} blocks.",
            expected=f"{capacity_bytes // c.BLOCK_SIZE}, what the disk holds",
        )
    journal = bool(fields[_S_FEATURE_COMPAT] & c.EXT4_FEATURE_COMPAT_HAS_JOURNAL)
    try:
        geometry = Geometry(capacity_bytes, journal=journal)
    except UsageError as error:
        raise IntegrityError(error.what, expected=error.expected) from error
    label = fields[_S_VOLUME_NAME].rstrip(b"\0")
    identity = Identity(fields[_S_UUID], fields[_S_HASH_SEED], label)
    pristine = FileSystem.create(geometry, identity)
    table = read(c.BLOCK_SIZE, geometry.descriptor_blocks * c.BLOCK_SIZE)
    groups = _parse_descriptors(table, geometry)
    allocator = _counted(geometry, groups)
    _compare_descriptors(table, encode_descriptors(allocator, identity))
    expected = encode_superblock(allocator, identity, pristine.journal_i_block)
    _compare("superblock", raw, expected, c.SUPERBLOCK_SIZE)
    _check_backups(read, geometry, identity, pristine.journal_i_block)
    inode = pristine.read_inode(c.EXT4_JOURNAL_INO) if journal else None
    return Volume(geometry, identity, groups, inode)


def _parse_descriptors(table: bytes, geometry: Geometry) -> tuple[GroupDescriptor, ...]:
    # One behind the other they are 32 bytes: the structure leaves out the checksum at its end.
    return tuple(
        GroupDescriptor._make(c.GROUP_DESC.unpack_from(table, group * c.GROUP_DESC_SIZE))
        for group in range(geometry.groups)
    )


def _counted(geometry: Geometry, groups: tuple[GroupDescriptor, ...]) -> Allocator:
    """Return an allocator that counts what the descriptors count; it has no bitmaps to speak of."""
    allocator = Allocator(
        geometry,
        frontier=geometry.data_start,
        directories=Sequence(0, 0),
        others=Sequence(0, 0),
        free_blocks=[group.bg_free_blocks_count_lo for group in groups],
    )
    for number, group in enumerate(groups):
        free_inodes, unused = group.bg_free_inodes_count_lo, group.bg_itable_unused_lo
        if group.bg_free_blocks_count_lo > geometry.group_blocks(number):
            raise _descriptor_fault(number, "counts more free blocks than it has")
        if free_inodes > INODES_PER_GROUP or unused > free_inodes:
            raise _descriptor_fault(number, "counts more free inodes than it has")
        if group.bg_used_dirs_count_lo > INODES_PER_GROUP - free_inodes:
            raise _descriptor_fault(number, "counts more directories than inodes in use")
        if not group.bg_flags & c.EXT4_BG_INODE_UNINIT:
            allocator.inode_bitmaps[number] = bytearray()
        elif unused != INODES_PER_GROUP:
            raise _descriptor_fault(number, "has inodes in use but no inode bitmap")
        if not group.bg_flags & c.EXT4_BG_BLOCK_UNINIT:
            allocator.block_bitmaps[number] = bytearray()
        allocator.used_inodes[number] = INODES_PER_GROUP - free_inodes
        allocator.used_directories[number] = group.bg_used_dirs_count_lo
        allocator.highest_inode[number] = INODES_PER_GROUP - unused
    return allocator


def _compare_descriptors(table: bytes, expected: bytes) -> None:
    if table == expected:
        return
    at = _first_difference(table, expected)
    group, offset = divmod(at, c.GROUP_DESC_SIZE)
    if offset >= c.GROUP_DESC_CHECKSUM_OFFSET:
        raise _descriptor_fault(group, "has a wrong checksum")
    raise _descriptor_fault(
        group, f"has {table[at]:#04x} at byte {offset}, where {expected[at]:#04x} has to be"
    )


def _descriptor_fault(group: int, what: str) -> IntegrityError:
    return IntegrityError(f"The descriptor of block group {group} {what}.")


def _check_backups(
    read: Read, geometry: Geometry, identity: Identity, journal_i_block: bytes
) -> None:
    """Check the copies that every chain's first link makes; they keep that link's counters."""
    first: bytes | None = None
    for group in geometry.backup_groups:
        offset = group * c.BLOCKS_PER_GROUP * c.BLOCK_SIZE
        copy = read(offset, geometry.backup_used_blocks * c.BLOCK_SIZE)
        raw, table = copy[: c.BLOCK_SIZE], copy[c.BLOCK_SIZE :]
        try:
            if first is None:
                first = table
                counted = _counted(geometry, _parse_descriptors(table, geometry))
                _compare_descriptors(table, encode_descriptors(counted, identity))
            elif table != first:
                _compare_descriptors(table, first)
            expected = encode_superblock(counted, identity, journal_i_block, group=group)
            _compare("superblock", raw, expected, c.BLOCK_SIZE)
        except IntegrityError as error:
            error.add_context(f"The copy in block group {group}")
            raise


def _compare(what: str, raw: bytes, expected: bytes, size: int) -> None:
    expected = expected.ljust(size, b"\0")
    if raw == expected:
        return
    fields = c.SUPERBLOCK.unpack_from(raw)
    wanted = c.SUPERBLOCK.unpack_from(expected)
    for name, index in (
        ("free blocks", _S_FREE_BLOCKS_COUNT_LO),
        ("free inodes", _S_FREE_INODES_COUNT),
    ):
        if fields[index] != wanted[index]:
            raise IntegrityError(
                f"The {what} counts {fields[index]} {name}.",
                expected=f"{wanted[index]}, the sum over all groups",
            )
    at = _first_difference(raw, expected)
    raise IntegrityError(
        f"The {what} has {raw[at]:#04x} at byte {at:#x}, where {expected[at]:#04x} has to be."
    )


def _first_difference(one: bytes, other: bytes) -> int:
    return next(at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
