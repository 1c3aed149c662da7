"""Which block of a large directory has which name, so that a later layer changes few of them. Pure.

A directory of more than a grain (64 KiB) is laid out in whole grains of its own, and is changed in
place: a grain in which a name comes, goes or stands for another inode is written again, all others
stay as they are. New names go where the layer writes anyway, then into grains with much room, then
into new grains at the end. Smaller directories are written anew as a whole and need no placement.

What is decided here is part of the format: a child link knows its parent's blocks by it alone. The
placement is in the link's state, so a change of the rules does not invalidate older links.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from converter.ext4 import c_ext4 as c
from converter.ext4.directory import DOTS_BYTES, entry_bytes, pack_names
from converter.ext4.geometry import ALIGNMENT_BLOCKS

_ROOMY_BYTES = ALIGNMENT_BLOCKS * c.BLOCK_SIZE // 4  # of a grain: worth changing it


@dataclass(slots=True)
class Placement:
    """`where` has the block of each name, `blocks` is their number, a multiple of a grain's.

    `stored` tells that a link's state has it already, so that only changes need to be stored.
    """

    blocks: int
    where: dict[bytes, int]
    stored: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, blocks: list[list[bytes]]) -> Self:
        """Return the placement of a directory written anew, from the names of each block."""
        where: dict[bytes, int] = {}
        for number, block in enumerate(blocks):
            where.update(dict.fromkeys(block, number))
        return cls(-(-len(blocks) // ALIGNMENT_BLOCKS) * ALIGNMENT_BLOCKS, where)

    def names(self, grains: set[int]) -> dict[int, list[bytes]]:
        """Return the names, in byte order, of each block of `grains` that has any."""
        found: dict[int, list[bytes]] = {}
        for name, block in self.where.items():
            if block // ALIGNMENT_BLOCKS in grains:
                found.setdefault(block, []).append(name)
        for names in found.values():
            names.sort()
        return found


def update(
    placement: Placement, before: dict[bytes, int], after: dict[bytes, int]
) -> set[int] | None:
    """Change `placement` from the names `before` to `after`; return the grains to write again.

    Grains behind the old end are new. Returns None, with `placement` unchanged, where writing the
    directory anew would take half as many grains or less: so it shrinks with its names.
    """
    given = [name for name, packed in after.items() if before.get(name) != packed]
    taken = before.keys() - after.keys()
    dirty = {placement.where[name] // ALIGNMENT_BLOCKS for name in taken}
    dirty |= {placement.where[name] // ALIGNMENT_BLOCKS for name in given if name in before}
    where = {name: block for name, block in placement.where.items() if name not in taken}
    blocks = _insert(
        sorted(name for name in given if name not in before), where, placement.blocks, dirty
    )
    anew = sum(1 for _ in pack_names(after))
    if 2 * -(-anew // ALIGNMENT_BLOCKS) <= len(dirty):
        return None
    placement.blocks, placement.where = blocks, where
    return dirty


def _insert(names: list[bytes], where: dict[bytes, int], blocks: int, dirty: set[int]) -> int:
    """Enter `names` into `where` and what they change into `dirty`; return the number of blocks."""
    if not names:
        return blocks
    room = free_bytes(where, blocks)
    grain_room = [
        sum(room[first : first + ALIGNMENT_BLOCKS]) for first in range(0, blocks, ALIGNMENT_BLOCKS)
    ]
    roomy = [
        grain
        for grain, free in enumerate(grain_room)
        if grain not in dirty and free >= _ROOMY_BYTES
    ]
    roomy.sort(key=lambda grain: (-grain_room[grain], grain))
    grains = iter(sorted(dirty) + roomy)
    pending: list[int] = []  # blocks of the grain at hand, the next one last
    for name in names:
        needed = entry_bytes(name)
        while not pending or room[pending[-1]] < needed:
            if pending:
                pending.pop()  # what it has left is too little: the next name may not try again
                continue
            grain = next(grains, None)
            if grain is None:
                grain = blocks // ALIGNMENT_BLOCKS
                blocks += ALIGNMENT_BLOCKS
                room += [c.BLOCK_SIZE] * ALIGNMENT_BLOCKS
            first = grain * ALIGNMENT_BLOCKS
            pending = list(range(first + ALIGNMENT_BLOCKS - 1, first - 1, -1))
        where[name] = pending[-1]
        room[pending[-1]] -= needed
        dirty.add(pending[-1] // ALIGNMENT_BLOCKS)
    return blocks


def free_bytes(where: dict[bytes, int], blocks: int) -> list[int]:
    """Return how much room each block has; below 0 where names do not fit. Raises IndexError."""
    room = [c.BLOCK_SIZE] * blocks
    room[0] -= DOTS_BYTES
    for name, block in where.items():
        room[block] -= entry_bytes(name)
    return room
