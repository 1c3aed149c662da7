"""Who owns which block and inode. Owns bitmaps, counters and the frontier; writes nothing.

Allocation only ever goes forward: blocks come from one frontier, inode numbers from two sequences
(directories, which later layers change again, sit close together; everything else follows). What is
freed is marked free, but never handed out again in the same chain, so no link changes what a lower
one wrote except metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.geometry import (
    ALIGNMENT_BLOCKS,
    BYTES_PER_FREE_INODE,
    INODES_PER_GROUP,
    Geometry,
)

Run = tuple[int, int]  # first block, number of blocks

_FULL_INODE_BITMAP_PADDING = b"\xff" * (c.BLOCK_SIZE - INODES_PER_GROUP // 8)


@dataclass(slots=True)
class Sequence:
    """The inode numbers of one kind: the group being filled and the next index in it.

    Those from `settled` on are not in the bitmap yet.
    """

    group: int
    index: int
    settled: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.settled = self.index


@dataclass(slots=True)
class Allocator:
    """The allocation state of one file system; part of a link's stored state.

    Bitmaps exist only for groups that are in use. `used_dirs` and `highest_inode` are per group;
    `highest_inode` is the number of inodes ever used there, from which bg_itable_unused follows.
    What is handed out gets into bitmaps and counters with `settle`, long runs in one step.
    """

    geometry: Geometry
    frontier: int
    directories: Sequence
    others: Sequence
    block_bitmaps: dict[int, bytearray] = field(default_factory=dict)
    inode_bitmaps: dict[int, bytearray] = field(default_factory=dict)
    free_blocks: list[int] = field(default_factory=list)
    used_directories: dict[int, int] = field(default_factory=dict)
    used_inodes: dict[int, int] = field(default_factory=dict)
    highest_inode: dict[int, int] = field(default_factory=dict)
    dirty_block_bitmaps: set[int] = field(default_factory=set)
    dirty_inode_bitmaps: set[int] = field(default_factory=set)
    _settled: int = field(init=False, compare=False)  # block up to which bitmaps are right
    _barrier: int = field(default=0, init=False, compare=False)  # no run goes on behind it

    def __post_init__(self) -> None:
        self._settled = self.frontier

    @classmethod
    def new(cls, geometry: Geometry) -> Allocator:
        """Return the state of an empty file system: only metadata is in use."""
        allocator = cls(
            geometry,
            frontier=geometry.data_start,
            directories=Sequence(0, c.EXT4_GOOD_OLD_FIRST_INO - 1),
            # A disk of one group has nowhere else to go: its second sequence starts half way.
            others=Sequence(1, 0) if geometry.groups > 1 else Sequence(0, INODES_PER_GROUP // 2),
            free_blocks=[geometry.group_blocks(group) for group in range(geometry.groups)],
        )
        for start, length in geometry.metadata_ranges():
            allocator._set_range(start, length)
        for group in geometry.backup_groups:
            # The superblock's copy alone does not initialise a group: the kernel computes it.
            if not allocator._holds_metadata(group):
                del allocator.block_bitmaps[group]
        last = geometry.groups - 1
        bitmap = allocator._block_bitmap(last)  # e2fsck wants the last group's written
        _fill(bitmap, geometry.group_blocks(last), c.BLOCKS_PER_GROUP)
        reserved = c.EXT4_GOOD_OLD_FIRST_INO - 1
        _fill(allocator._inode_bitmap(0), 0, reserved)
        allocator.used_inodes[0] = allocator.highest_inode[0] = reserved
        allocator.dirty_inode_bitmaps.add(0)
        allocator.used_directories[0] = 1  # the root, which is a reserved inode
        allocator.dirty_block_bitmaps = set(allocator.block_bitmaps)
        return allocator

    def _holds_metadata(self, group: int) -> bool:
        first = group * c.BLOCKS_PER_GROUP
        return first < self.geometry.data_start

    # Blocks

    def align_frontier(self) -> None:
        """Begin a new layer: from here on no block shares a grain with an older link."""
        self.settle()
        self.frontier = -(-self.frontier // ALIGNMENT_BLOCKS) * ALIGNMENT_BLOCKS
        self._settled = self.frontier

    def allocate_blocks(self, count: int) -> list[Run]:
        """Take `count` blocks, at least one, at the frontier; return them as runs of at most 32768.

        Raises SaltflatError when the disk is full.
        """
        block = self.frontier
        if block + count <= self._barrier and count <= c.EXT_INIT_MAX_LEN:  # nearly every file
            self.frontier = block + count
            return [(block, count)]
        self.settle()
        geometry = self.geometry
        runs: list[Run] = []
        while count:
            block = geometry.skip_reserved(block, 1)
            self._barrier = geometry.next_backup(block) or geometry.blocks
            length = min(count, self._barrier - block, c.EXT_INIT_MAX_LEN)
            if length <= 0 or block + length > geometry.blocks:
                raise SaltflatError(
                    f"The image does not fit: the disk's {geometry.capacity_bytes >> 20} MiB are "
                    f"full and {count * c.BLOCK_SIZE} bytes more are needed for one file.",
                    hint="Give the disk a larger --capacity.",
                )
            runs.append((block, length))
            self._set_range(block, length)
            block += length
            count -= length
        self.frontier = self._settled = block
        return runs

    def free_blocks_of(self, runs: list[Run]) -> None:
        """Mark `runs` free. They are not used again in this chain.

        Raises IntegrityError for blocks that are not in use: where a file of a lower layer has its
        blocks is the word of a stored state.
        """
        self.settle()
        for start, length in runs:
            if not self.geometry.data_start <= start <= start + length <= self.geometry.blocks:
                raise IntegrityError(f"A file has {length} blocks at {start}, outside the data.")
            for group, first, end in _split(start, length):
                bitmap = self._block_bitmap(group)
                if not _is_full(bitmap, first, end):
                    raise IntegrityError(f"A file has blocks at {start} that are not in use.")
                _clear(bitmap, first, end)
                self.free_blocks[group] += end - first
                self.dirty_block_bitmaps.add(group)

    def settle(self) -> None:
        """Enter what was handed out into bitmaps and counters."""
        if self._settled < self.frontier:
            self._set_range(self._settled, self.frontier - self._settled)
            self._settled = self.frontier
        self._settle_inodes(self.directories)
        self._settle_inodes(self.others)

    def _set_range(self, start: int, length: int) -> None:
        for group, first, end in _split(start, length):
            _fill(self._block_bitmap(group), first, end)
            self.free_blocks[group] -= end - first
            self.dirty_block_bitmaps.add(group)

    def _block_bitmap(self, group: int) -> bytearray:
        bitmap = self.block_bitmaps.get(group)
        if bitmap is None:
            bitmap = self.block_bitmaps[group] = bytearray(c.BLOCK_SIZE)
            if group in self.geometry.backup_groups:
                _fill(bitmap, 0, self.geometry.backup_used_blocks)
        return bitmap

    # Inodes

    def new_directory(self) -> int:
        """Return the inode number of a new directory. Raises SaltflatError when none is left."""
        # A disk of one group has the others in its second half.
        limit = INODES_PER_GROUP if self.geometry.groups > 1 else INODES_PER_GROUP // 2
        inode = self._next_inode(self.directories, limit)
        group = (inode - 1) // INODES_PER_GROUP
        self.used_directories[group] = self.used_directories.get(group, 0) + 1
        return inode

    def new_node(self) -> int:
        """Return the inode number of a new file, link or device. Raises SaltflatError."""
        return self._next_inode(self.others, INODES_PER_GROUP)

    def _next_inode(self, sequence: Sequence, limit: int) -> int:
        if sequence.index >= limit:
            self._settle_inodes(sequence)
            sequence.group = self._claim_group(sequence)
            sequence.index = sequence.settled = 0
        sequence.index += 1
        return sequence.group * INODES_PER_GROUP + sequence.index

    def _settle_inodes(self, sequence: Sequence) -> None:
        first, end, group = sequence.settled, sequence.index, sequence.group
        if first < end:
            _fill(self._inode_bitmap(group), first, end)
            self.used_inodes[group] += end - first
            self.highest_inode[group] = max(self.highest_inode[group], end)
            self.dirty_inode_bitmaps.add(group)
            sequence.settled = end

    def _claim_group(self, sequence: Sequence) -> int:
        group = max(self.directories.group, self.others.group) + 1
        if group >= self.geometry.groups:
            total = self.geometry.groups * INODES_PER_GROUP
            raise SaltflatError(
                f"The image does not fit: none of the disk's {total} inodes is left for another "
                f"{'directory' if sequence is self.directories else 'file'}.",
                hint="Give the disk a larger --capacity: there is one inode for 8 KiB.",
            )
        return group

    def check_headroom(self) -> None:
        """Raise SaltflatError unless the free space has an inode for each 16 KiB: apps need them.

        More capacity always mends it: it brings twice as many.
        """
        self.settle()
        free = sum(self.free_blocks) * c.BLOCK_SIZE // BYTES_PER_FREE_INODE
        used = sum(self.used_inodes.values())
        left = self.geometry.groups * INODES_PER_GROUP - used
        if left < free:
            # Each group that is added brings half of its inodes as a surplus, at least.
            surplus = INODES_PER_GROUP - c.BLOCKS_PER_GROUP * c.BLOCK_SIZE // BYTES_PER_FREE_INODE
            groups = self.geometry.groups + -(-(free - left) // surplus)
            raise SaltflatError(
                f"The image does not fit: its {used} files and directories leave {left} inodes.",
                expected=f"{free}, one for each 16 KiB of free space, for what runs on the disk",
                hint=f"Give the disk a larger --capacity: {_in_gib(groups)}G is enough.",
            )

    def _inode_bitmap(self, group: int) -> bytearray:
        bitmap = self.inode_bitmaps.get(group)
        if bitmap is None:
            bitmap = bytearray(INODES_PER_GROUP // 8) + bytearray(_FULL_INODE_BITMAP_PADDING)
            self.inode_bitmaps[group] = bitmap
            self.used_inodes[group] = self.highest_inode[group] = 0
        return bitmap

    def free_inode(self, inode: int, *, directory: bool) -> None:
        """Mark `inode` free. Its number is not used again in this chain."""
        self.settle()
        group, index = divmod(inode - 1, INODES_PER_GROUP)
        self.inode_bitmaps[group][index >> 3] &= ~(1 << (index & 7))
        self.used_inodes[group] -= 1
        if directory:
            self.used_directories[group] -= 1
        self.dirty_inode_bitmaps.add(group)


def _in_gib(groups: int) -> int:
    """Return the size of block groups in GiB, rounded up."""
    return -(-groups * c.BLOCKS_PER_GROUP * c.BLOCK_SIZE >> 30)


def _split(start: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yield (group, first, end) of a run, with block indexes inside each group."""
    end = start + length
    while start < end:
        group, first = divmod(start, c.BLOCKS_PER_GROUP)
        stop = min(c.BLOCKS_PER_GROUP, first + end - start)
        yield group, first, stop
        start += stop - first


def _fill(bitmap: bytearray, first: int, end: int) -> None:
    """Set the bits first..end-1, whole bytes at once."""
    while first < end and first & 7:
        bitmap[first >> 3] |= 1 << (first & 7)
        first += 1
    whole = (end - first) >> 3
    if whole > 0:
        at = first >> 3
        bitmap[at : at + whole] = b"\xff" * whole
        first += whole << 3
    while first < end:
        bitmap[first >> 3] |= 1 << (first & 7)
        first += 1


def _clear(bitmap: bytearray, first: int, end: int) -> None:
    """Clear the bits first..end-1, whole bytes at once."""
    while first < end and first & 7:
        bitmap[first >> 3] &= ~(1 << (first & 7))
        first += 1
    whole = (end - first) >> 3
    if whole > 0:
        at = first >> 3
        bitmap[at : at + whole] = bytes(whole)
        first += whole << 3
    while first < end:
        bitmap[first >> 3] &= ~(1 << (first & 7))
        first += 1


def _is_full(bitmap: bytearray, first: int, end: int) -> bool:
    """Tell whether all of the bits first..end-1 are set."""
    begin = first >> 3
    bits = int.from_bytes(bitmap[begin : (end + 7) >> 3], "little") >> (first & 7)
    mask = (1 << (end - first)) - 1
    return bits & mask == mask
