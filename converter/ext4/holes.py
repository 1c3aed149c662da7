"""Which blocks of a file with holes exist, and what is in them. Pure: segments and bytes in.

A block exists if a segment touches it; what else is in it is zeros. So a hole of the archive is one
of the disk as far as it has whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.ext4 import c_ext4 as c
from converter.layer.entry import Segments


def block_ranges(segments: Segments) -> Iterator[tuple[int, int]]:
    """Yield (first block in the file, number of blocks) of what `segments` touch, ascending."""
    first = end = 0
    for offset, length in segments:
        start = offset // c.BLOCK_SIZE
        if start > end:
            if end > first:
                yield first, end - first
            first = start
        end = -(-(offset + length) // c.BLOCK_SIZE)
    if end > first:
        yield first, end - first


def fill_blocks(segments: Segments, data: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the content of the blocks that `segments` touch: `data`, with zeros around it.

    The last block may be cut short. `data` has the segments' bytes, in pieces of any size.
    """
    pieces = iter(data)
    piece = memoryview(b"")
    position = 0  # in the file: all blocks below are done, up to here
    for offset, length in segments:
        start = offset - offset % c.BLOCK_SIZE
        if start > position:
            if position % c.BLOCK_SIZE:
                yield bytes(-position % c.BLOCK_SIZE)
            position = start
        if offset > position:
            yield bytes(offset - position)
        position = offset + length
        left = length
        while left:
            piece = piece or next(pieces)
            part = piece[:left]
            yield part
            piece = piece[len(part) :]
            left -= len(part)
