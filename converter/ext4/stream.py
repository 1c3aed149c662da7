"""Blocks in ascending order, gathered into large writes of whole grains. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import GRAIN_BYTES

Write = tuple[int, bytes | memoryview]  # first block, whole grains

FLUSH_BYTES = 1 << 20
_PADDING = tuple(bytes(size) for size in range(c.BLOCK_SIZE))


class DataStream:
    """What is appended goes to the blocks from `next_block` on, which the caller advances."""

    def __init__(self, block: int) -> None:
        """Begin at `block`, on a grain's border."""
        self.next_block = block
        self.buffered = 0
        self._start = block
        self._parts: list[bytes | memoryview] = []

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes; the caller flushes when `buffered` passes FLUSH_BYTES."""
        self._parts.append(data)
        self.buffered += len(data)

    def pad_block(self) -> None:
        """Add zeros up to the end of the block."""
        padding = -self.buffered % c.BLOCK_SIZE
        if padding:
            self.append(_PADDING[padding])

    def flush(self) -> Write:
        """Return all whole grains; what is left of the last one stays buffered."""
        joined = memoryview(b"".join(self._parts))
        whole = len(joined) // GRAIN_BYTES * GRAIN_BYTES
        write = (self._start, joined[:whole])
        self._start += whole // c.BLOCK_SIZE
        self._parts = [joined[whole:]] if whole < len(joined) else []
        self.buffered = len(joined) - whole
        return write

    def finish(self) -> Iterator[Write]:
        """Yield the rest, with zeros up to the end of its grain."""
        if self.buffered:
            self._parts.append(bytes(-self.buffered % GRAIN_BYTES))
            yield self.flush()

    def jump(self, block: int) -> Iterator[Write]:
        """Go on at `block`, a grain's border; zeros fill what is left of the grain at hand."""
        yield from self.finish()
        self._start = self.next_block = block
