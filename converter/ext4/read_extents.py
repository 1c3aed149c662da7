"""Extent trees read back: i_block in, runs of blocks out. Owns what a tree may say.

Trees are read level by level, and what is found has to ascend, so no block of a tree is read twice,
whatever a hostile disk says. Format: Documentation/filesystems/ext4, ifork.rst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c

DEPTH_MAX = 2  # of what we write: 462,400 extents, more than a sparse file of an archive may have


class Extent(NamedTuple):
    """Blocks `logical` to `logical + length` of a file, on the disk from `start` on."""

    logical: int
    length: int
    start: int


class ExtentMap(NamedTuple):
    """Where a file's blocks are, ascending and disjoint, and the blocks of the tree itself."""

    extents: tuple[Extent, ...]
    nodes: tuple[int, ...] = ()

    @property
    def blocks(self) -> int:
        """Count all blocks that belong to the file."""
        return len(self.nodes) + sum(extent.length for extent in self.extents)

    @property
    def end(self) -> int:
        """Return the number of the first logical block behind the last one that is mapped."""
        return self.extents[-1].logical + self.extents[-1].length if self.extents else 0


def read_extents(
    i_block: bytes, *, disk_blocks: int, read_block: Callable[[int], bytes]
) -> ExtentMap:
    """Read the tree whose root is `i_block` (60 bytes) on a disk of `disk_blocks` blocks.

    Raises IntegrityError for a tree that is out of bounds, out of order or overlaps itself.
    """
    depth, count = _read_header(i_block, c.EXTENTS_IN_INODE)
    if depth == 0:  # nearly every file
        return ExtentMap(tuple(_read_leaf(i_block, count, disk_blocks, 0)))
    if depth > DEPTH_MAX:
        raise IntegrityError(
            f"Its extent tree has {depth + 1} levels.", expected=f"at most {DEPTH_MAX + 1}"
        )
    nodes: list[int] = []
    level = _read_index(i_block, count, disk_blocks, -1)
    for levels_below in range(depth - 1, 0, -1):
        below: list[_Branch] = []
        for logical, block in level:
            nodes.append(block)
            node, count = _read_node(block, levels_below, read_block)
            found = _read_index(node, count, disk_blocks, below[-1].logical if below else -1)
            _check_first(block, logical, found[0].logical)
            below += found
        level = below
    extents: list[Extent] = []
    for logical, block in level:
        nodes.append(block)
        node, count = _read_node(block, 0, read_block)
        end = extents[-1].logical + extents[-1].length if extents else 0
        leaf = _read_leaf(node, count, disk_blocks, end)
        _check_first(block, logical, leaf[0].logical)
        extents += leaf
    return ExtentMap(tuple(extents), tuple(nodes))


class _Branch(NamedTuple):
    """An entry of an index node: the block of a node and the first logical block in it."""

    logical: int
    block: int


def _read_node(block: int, depth: int, read_block: Callable[[int], bytes]) -> tuple[bytes, int]:
    """Return the node in a block, which has to be of this depth, and its number of entries."""
    node = read_block(block)
    found, count = _read_header(node, c.EXTENTS_PER_BLOCK)
    if found != depth:
        raise IntegrityError(
            f"Block {block} of its extent tree has the depth {found}.", expected=f"{depth}"
        )
    return node, count


def _read_header(node: bytes, capacity: int) -> tuple[int, int]:
    """Return (depth, number of entries) of a node that has room for `capacity` entries.

    Only the root of an empty file may have none.
    """
    magic, count, maximum, depth, generation = c.EXTENT_HEADER.unpack_from(node)
    if magic != c.EXT4_EXT_MAGIC:
        raise IntegrityError(
            f"A node of its extent tree has the magic number {magic:#06x}.",
            expected=f"{c.EXT4_EXT_MAGIC:#06x}",
        )
    lowest = 1 if depth or capacity == c.EXTENTS_PER_BLOCK else 0
    if maximum != capacity or not lowest <= count <= capacity or generation:
        raise IntegrityError(
            f"A node of its extent tree has {count} of {maximum} entries.",
            expected=f"{lowest} to {capacity} of {capacity}",
        )
    if node[c.EXTENT_HEADER.size + count * c.EXTENT.size :].strip(b"\0"):
        raise IntegrityError("A node of its extent tree has something behind its entries.")
    return depth, count


def _check_first(block: int, logical: int, found: int) -> None:
    if logical != found:
        raise IntegrityError(
            f"Block {block} of its extent tree begins at block {found} of the file.",
            expected=f"{logical}, as the level above says",
        )


def _read_index(node: bytes, count: int, disk_blocks: int, last: int) -> list[_Branch]:
    """Return an index node's entries, all of which are behind the logical block `last`."""
    found = []
    for number in range(count):
        at = c.EXTENT_HEADER.size + number * c.EXTENT_IDX.size
        logical, block, block_high, _ = c.EXTENT_IDX.unpack_from(node, at)
        if logical <= last:
            raise IntegrityError(f"Its extent index at block {logical} is out of order.")
        if block_high or not 0 < block < disk_blocks:
            raise IntegrityError(f"Its extent tree leads to block {block_high << 32 | block}.")
        last = logical
        found.append(_Branch(logical, block))
    return found


def _read_leaf(node: bytes, count: int, disk_blocks: int, end: int) -> list[Extent]:
    """Return a leaf's extents, none of which may begin before the logical block `end`."""
    found = []
    for number in range(count):
        at = c.EXTENT_HEADER.size + number * c.EXTENT.size
        logical, length, high, start = c.EXTENT.unpack_from(node, at)
        if logical < end:
            raise IntegrityError(f"Its extents at block {logical} overlap or are out of order.")
        if not 0 < length <= c.EXT_INIT_MAX_LEN:
            raise IntegrityError(f"Its extent at block {logical} has the length {length}.")
        if high or not 0 < start < start + length <= disk_blocks:
            raise IntegrityError(
                f"Its extent at block {logical} lies at block {high << 32 | start} of the disk.",
                expected=f"{length} blocks below {disk_blocks}",
            )
        end = logical + length
        found.append(Extent(logical, length, start))
    return found
