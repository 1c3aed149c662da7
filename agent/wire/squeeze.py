"""Compression of single frames. Owns when it is tried and how far it may inflate.

Every frame stands alone: one that is resent must be the same bytes, and a new host process joins
in the middle. Starting a deflate stream costs as much as deflating a kilobyte, so what does not
shrink is left alone for a while, each time longer.
"""

from __future__ import annotations

import zlib

from agent.hints import Callable, Optional, Tuple, Union
from agent.wire.c_frame import INFLATION
from agent.wire.events import ProtocolError

_RAW = -15  # no zlib header and no checksum: the frame's tag is better
_LEVEL = 1
_SMALLEST = 256  # bytes that are worth trying
_WORTH = 0.9  # of the size, after which it was not worth it
_MISSES = 2  # in a row, before frames are skipped
_FIRST_SKIP = 8
_LONGEST_SKIP = 32  # a try costs a twentieth of a frame's time; text may come at any time

Buffer = Union[bytes, bytearray, memoryview]


class Squeeze:
    """Compress the frames of one stream as long as it pays."""

    __slots__ = ("_misses", "_skip", "_stretch")

    def __init__(self) -> None:
        self._misses = 0
        self._skip = 0
        self._stretch = 1

    def squeeze(
        self, front: Callable[[int], Buffer], count: int, payload: int
    ) -> Optional[Tuple[int, bytes]]:
        """Return how many of the first bytes were taken, at most `count`, and them, deflated.

        `front` returns so many of those that wait. The deflated fit into `payload` bytes, and
        inflate to at most INFLATION times as many. None when it is not worth it.
        """
        if count < _SMALLEST:
            return None
        if self._skip:
            self._skip -= 1
            return None
        while True:
            size = min(count, payload * self._stretch)
            deflated = _deflate(front(size))
            if len(deflated) <= min(payload, _WORTH * size):
                break
            if self._stretch == 1:
                self._miss()
                return None
            self._stretch = 1
        self._misses = 0
        if size == payload * self._stretch and 2 * len(deflated) <= payload:
            self._stretch = min(INFLATION, 2 * self._stretch)
        return size, deflated

    def _miss(self) -> None:
        self._misses += 1
        if self._misses >= _MISSES:
            self._skip = min(_LONGEST_SKIP, _FIRST_SKIP << min(16, self._misses - _MISSES))


def _deflate(data: Buffer) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return deflater.compress(data) + deflater.flush()


def inflate(payload: bytes, max_payload: int) -> bytes:
    """Return what a compressed payload holds.

    Raises ProtocolError when that is no deflate stream, nothing, or more than INFLATION times the
    longest payload; no more than that is ever allocated.
    """
    longest = INFLATION * max_payload
    inflater = zlib.decompressobj(_RAW)
    try:
        data = inflater.decompress(payload, longest + 1)
    except zlib.error as error:
        raise ProtocolError("a compressed payload that does not inflate") from error
    if not data or len(data) > longest or not inflater.eof or inflater.unused_data:
        raise ProtocolError("a compressed payload that is not one whole, bounded frame")
    return data
