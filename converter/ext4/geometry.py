"""Where everything of a file system of a given capacity lies. Pure arithmetic, no state.

The layout makes layers cheap: what nearly every layer changes (superblock, descriptors, the bitmaps
in the order in which they fill) is packed into the first grains, and data begins behind all
metadata, so that it only ever grows. The flex_bg feature lets bitmaps and tables lie anywhere.

    block 0               superblock (at byte 1024)
    1 ...                 group descriptors
    then                  bitmaps in hot order: block bitmap of group i + 2, inode bitmap of group i
    grain-aligned         the journal
    grain-aligned         inode tables, ascending, around the backup superblocks
    grain-aligned         the data frontier's start

The backup groups (sparse_super: 1 and the powers of 3, 5 and 7) keep their first grains for copies
of superblock and descriptors, written once with the first link.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from converter.errors import UsageError
from converter.ext4 import c_ext4 as c

MIB = 1 << 20
ALIGNMENT_BLOCKS = 16  # 64 KiB, the largest VMDK grain: no link shares one with an older link
# Twice as many as mke2fs makes: images have many small files, and what they leave must have one
# for each BYTES_PER_FREE_INODE. Tables that nothing uses take no space in a link.
INODES_PER_GROUP = 16384
BYTES_PER_FREE_INODE = 16 << 10
INODE_TABLE_BLOCKS = INODES_PER_GROUP // c.INODES_PER_BLOCK
MIN_CAPACITY = 64 * MIB
MAX_CAPACITY = 2000 << 30  # the bitmaps of all groups lie in front of the first backup superblock


def _is_backup_group(group: int) -> bool:
    """Tell whether sparse_super puts a superblock copy into `group` (group 0 has the original)."""
    if group <= 1:
        return group == 1
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def _journal_blocks(capacity_bytes: int) -> int:
    """Choose the journal's size about as mke2fs does: it must not crowd out a small disk."""
    if capacity_bytes >= 8 << 30:
        return 16384
    if capacity_bytes >= 1 << 30:
        return 4096
    return 1024  # the least that the kernel takes


def _align(block: int) -> int:
    return -(-block // ALIGNMENT_BLOCKS) * ALIGNMENT_BLOCKS


@dataclass(frozen=True)
class Geometry:
    """The fixed addresses, in blocks of 4 KiB, of a file system of `capacity_bytes`.

    Raises UsageError if the capacity is not a multiple of 1 MiB between 64 MiB and 2000 GiB.
    """

    capacity_bytes: int
    journal: bool = True

    def __post_init__(self) -> None:
        capacity = self.capacity_bytes
        if capacity % MIB or not MIN_CAPACITY <= capacity <= MAX_CAPACITY:
            raise UsageError(
                f"A capacity of {capacity} bytes is not possible.",
                expected="a multiple of 1 MiB between 64 MiB and 2000 GiB",
                hint="Use --capacity, for example --capacity 16G.",
            )

    @cached_property
    def blocks(self) -> int:
        """Count the blocks of the whole file system."""
        return self.capacity_bytes // c.BLOCK_SIZE

    @cached_property
    def groups(self) -> int:
        """Count the block groups; the last may be shorter than the others."""
        return -(-self.blocks // c.BLOCKS_PER_GROUP)

    @cached_property
    def descriptor_blocks(self) -> int:
        """Count the blocks of the group descriptor table."""
        return -(-self.groups * c.GROUP_DESC_SIZE // c.BLOCK_SIZE)

    @cached_property
    def backup_groups(self) -> tuple[int, ...]:
        """List the groups that begin with a copy of superblock and descriptors."""
        return tuple(group for group in range(1, self.groups) if _is_backup_group(group))

    @cached_property
    def backup_used_blocks(self) -> int:
        """Count the blocks in use at the start of a backup group."""
        return 1 + self.descriptor_blocks

    @cached_property
    def backup_reserved_blocks(self) -> int:
        """Count the blocks that allocation skips there: whole grains."""
        return _align(self.backup_used_blocks)

    @cached_property
    def block_bitmaps(self) -> tuple[int, ...]:
        """Give the address of each group's block bitmap."""
        first = 1 + self.descriptor_blocks
        return tuple(first + 2 * ((group - 2) % self.groups) for group in range(self.groups))

    @cached_property
    def inode_bitmaps(self) -> tuple[int, ...]:
        """Give the address of each group's inode bitmap."""
        first = 2 + self.descriptor_blocks
        return tuple(first + 2 * group for group in range(self.groups))

    @cached_property
    def hot_blocks(self) -> int:
        """Count the blocks from the superblock to the last bitmap, in whole grains."""
        return _align(1 + self.descriptor_blocks + 2 * self.groups)

    @cached_property
    def journal_blocks(self) -> int:
        """Count the journal's blocks; 0 without one."""
        return _journal_blocks(self.capacity_bytes) if self.journal else 0

    @cached_property
    def journal_start(self) -> int:
        """Give the journal's first block; it is one run and lies in no backup group's start."""
        return self.skip_reserved(self.hot_blocks, self.journal_blocks)

    @cached_property
    def inode_tables(self) -> tuple[int, ...]:
        """Give the first block of each group's inode table, each one run."""
        tables = []
        block = self.journal_start + self.journal_blocks
        for _ in range(self.groups):
            block = self.skip_reserved(block, INODE_TABLE_BLOCKS)
            tables.append(block)
            block += INODE_TABLE_BLOCKS
        return tuple(tables)

    @cached_property
    def data_start(self) -> int:
        """Give the first block of the data frontier."""
        return self.skip_reserved(self.inode_tables[-1] + INODE_TABLE_BLOCKS, 1)

    def group_blocks(self, group: int) -> int:
        """Count the blocks of `group`."""
        return min(c.BLOCKS_PER_GROUP, self.blocks - group * c.BLOCKS_PER_GROUP)

    def skip_reserved(self, block: int, length: int) -> int:
        """Return the first block from `block` on where `length` blocks meet no backup's grains."""
        while True:
            group = block // c.BLOCKS_PER_GROUP
            if group in self._backups:
                end = group * c.BLOCKS_PER_GROUP + self.backup_reserved_blocks
                if block < end:
                    block = end
                    continue
            barrier = self.next_backup(block)
            if barrier is None or block + length <= barrier:
                return block
            block = barrier + self.backup_reserved_blocks

    def next_backup(self, block: int) -> int | None:
        """Return the first block of the next backup group behind `block`, or None."""
        for group in self.backup_groups:
            start = group * c.BLOCKS_PER_GROUP
            if start > block:
                return start
        return None

    @cached_property
    def _backups(self) -> frozenset[int]:
        return frozenset(self.backup_groups)

    def metadata_ranges(self) -> list[tuple[int, int]]:
        """List (first block, length) of all that is in use before the first file is written."""
        ranges = [(0, 1 + self.descriptor_blocks + 2 * self.groups)]
        ranges.append((self.journal_start, self.journal_blocks))
        ranges.extend((start, INODE_TABLE_BLOCKS) for start in self.inode_tables)
        ranges.extend(
            (group * c.BLOCKS_PER_GROUP, self.backup_used_blocks) for group in self.backup_groups
        )
        return [(start, length) for start, length in ranges if length]
