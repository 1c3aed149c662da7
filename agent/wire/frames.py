"""Frames to bytes and bytes to frames. Owns framing and tags; knows no sequence and no stream.

A frame is magic, fixed header, crc of the header, payload, keyed tag. No escaping: the cost of a
frame never depends on what its payload contains, which an untrusted guest chooses. The parser
finds its way back after any garbage, and hands out as console text what was between frames.
"""

from __future__ import annotations

from zlib import crc32

from agent.bare_hashes import blake2b, compare_digest
from agent.hints import Callable, Iterator, NamedTuple, Optional, Tuple, Union
from agent.wire.c_frame import (
    FRAME_OVERHEAD,
    HEADER,
    HEADER_BODY,
    HEADER_CRC,
    HEADER_SIZE,
    MAGIC,
    PIECE,
    TAG_PERSON,
    TAG_SIZE,
    UNSEQUENCED_PAYLOAD,
    FrameType,
)
from agent.wire.events import Counters

_KNOWN_TYPES = frozenset(
    number for name, number in vars(FrameType).items() if not name.startswith("_")
)
_CRC_AT = HEADER_BODY.size


class Frame(NamedTuple):
    """One frame without its magic, crc and tag; `number` and `transmission` as in c_frame."""

    type: int
    flags: int = 0
    stream: int = 0
    number: int = 0
    transmission: int = 0
    payload: bytes = b""


class Sealer:
    """Tag the frames of one direction with one key."""

    def __init__(self, key: bytes) -> None:
        # Keying costs a compression round; a copy of the keyed state does not.
        self.keyed = blake2b(key=key, digest_size=TAG_SIZE, person=TAG_PERSON)

    def parts(self, frame: Frame) -> Tuple[bytes, bytes, bytes]:
        """Return the header, payload and tag that go on the line, one after the other."""
        frame_type, flags, stream, number, transmission, payload = frame
        body = HEADER_BODY.pack(
            MAGIC, frame_type, flags, stream, len(payload), number, transmission
        )
        header = body + HEADER_CRC.pack(crc32(body))
        digest = self.keyed.copy()
        digest.update(header)
        digest.update(payload)
        return header, payload, digest.digest()

    def seal(self, frame: Frame) -> bytes:
        """Return the frame as it goes on the line."""
        return b"".join(self.parts(frame))


Buffer = Union[bytes, bytearray, memoryview]
KeyChoice = Callable[[int], Optional[Sealer]]


class FrameParser:
    """Find the frames in a byte stream that may start, stop and break anywhere.

    `key_for(type)` names the key that a frame of this type must be tagged with, or None when no
    such frame is acceptable now. Never buffers more than one frame and the chunk just fed.
    """

    def __init__(self, key_for: KeyChoice, max_payload: int, counters: Counters) -> None:
        self._key_for = key_for
        self._longest = max_payload + PIECE.size
        self._counters = counters
        self._buffer = bytearray()  # begins with a frame's magic, or with a first part of it
        self._search = 0  # no frame begins before this index
        self._inner = 1  # as _search, for frames inside one that is still incomplete
        self._claimed = 0  # bytes up to here were part of a dropped frame: not console text

    def reset(self) -> None:
        """Forget a frame that has begun: the line was cut."""
        self._counters.discarded_bytes += len(self._buffer)
        self._buffer = bytearray()
        self._search, self._inner, self._claimed = 0, 1, 0

    def feed(self, data: Buffer) -> Iterator[Union[Frame, bytes]]:
        """Yield the frames that `data` completes, and as `bytes` what was between frames.

        Each frame is checked only when the one before has been taken, so that a handshake frame
        may change the keys for the frames after it in the same chunk. `data` may be reused when
        all has been yielded.
        """
        buffer = self._buffer
        at = 0
        if buffer and not self._search:
            # A frame that has begun and ends here: what follows need not pass the buffer.
            lacking = self._lacking()
            if 0 < lacking <= len(data):
                buffer += data[:lacking]
                at = lacking
                frame = self._good_frame(buffer, 0)
                if frame is not None:
                    self._remove_frame(len(buffer))
                    yield frame
        if not buffer and not self._claimed:
            while True:
                frame = self._good_frame(data, at)
                if frame is None:
                    break
                at += len(frame.payload) + FRAME_OVERHEAD
                self._counters.frames_received += 1
                yield frame
        if at < len(data):
            buffer += data[at:] if at else data
        if buffer:
            yield from self._search_buffer()

    def _lacking(self) -> int:
        """Return how many bytes the frame at the front lacks, as far as its header is known."""
        length = self._payload_length(0)
        if length is None or length < 0:
            return 0
        return length + FRAME_OVERHEAD - len(self._buffer)

    def _search_buffer(self) -> Iterator[Union[Frame, bytes]]:
        """Yield what is in the buffer, whatever it is."""
        buffer = self._buffer
        while buffer:
            # The usual case, with nothing between this frame and the one before, costs least.
            frame = None if self._search else self._good_frame(buffer, 0)
            if frame is not None:
                self._remove_frame(len(frame.payload) + FRAME_OVERHEAD)
                yield frame
                continue
            start = buffer.find(MAGIC, self._search)
            found = start >= 0
            if not found:
                start = max(self._search, len(buffer) - _unfinished_magic(buffer))
            if start:
                console = self._skip(start)
                if console:
                    yield console
            if not found:
                return
            length = self._payload_length(0)
            if length is None:
                self._search = 1
                continue
            if length < 0:
                return
            if len(buffer) >= length + FRAME_OVERHEAD:
                frame = self._good_frame(buffer, 0)
            elif self._encloses_a_frame():
                frame = None
            else:
                return
            if frame is None:
                # Rescan from the next byte, not from the end: where bytes were lost, the end of
                # this "payload" is the next frame's header.
                self._counters.forged += 1
                self._claimed = max(self._claimed, length + FRAME_OVERHEAD)
                self._search = 1
                self._inner = 1
                continue
            self._remove_frame(length + FRAME_OVERHEAD)
            yield frame

    def _remove_frame(self, size: int) -> None:
        del self._buffer[:size]
        self._claimed = max(0, self._claimed - size)
        self._search, self._inner = 0, 1
        self._counters.frames_received += 1

    def _good_frame(self, data: Buffer, start: int) -> Optional[Frame]:
        """Return the complete and good frame at `start`, or None, whatever the reason is."""
        if len(data) - start < FRAME_OVERHEAD:
            return None
        magic, kind, flags, stream, length, number, transmission, crc = HEADER.unpack_from(
            data, start
        )
        body = start + HEADER_SIZE
        end = body + length
        if (
            magic != MAGIC
            or len(data) < end + TAG_SIZE
            or length > (self._longest if kind >= FrameType.DATA else UNSEQUENCED_PAYLOAD)
            or kind not in _KNOWN_TYPES
        ):
            return None
        with memoryview(data) as view:
            if crc != crc32(view[start : start + _CRC_AT]):
                return None
            sealer = self._key_for(kind)
            if sealer is None:
                return None
            digest = sealer.keyed.copy()
            digest.update(view[start:end])
            if not compare_digest(digest.digest(), view[end : end + TAG_SIZE]):
                return None
            return Frame(kind, flags, stream, number, transmission, bytes(view[body:end]))

    def _skip(self, count: int) -> bytes:
        """Drop the first `count` bytes; return those that are console text."""
        claimed = min(count, self._claimed)
        console = bytes(self._buffer[claimed:count])
        del self._buffer[:count]
        self._claimed -= claimed
        self._search, self._inner = 0, 1
        self._counters.discarded_bytes += claimed
        self._counters.console_bytes += len(console)
        return console

    def _payload_length(self, start: int) -> Optional[int]:
        """Return the payload length that the header at `start` gives.

        -1 when the header is not complete, None when there is no acceptable header.
        """
        buffer = self._buffer
        if len(buffer) - start < HEADER_SIZE:
            return -1
        _magic, frame_type, _flags, _stream, length, _n, _t, crc = HEADER.unpack_from(buffer, start)
        if crc != crc32(buffer[start : start + _CRC_AT]):
            return None
        limit = self._longest if frame_type >= FrameType.DATA else UNSEQUENCED_PAYLOAD
        return int(length) if length <= limit and frame_type in _KNOWN_TYPES else None

    def _encloses_a_frame(self) -> bool:
        """Look for a good short frame inside the incomplete one at the front.

        When a cut or a burst took the end of a frame, its header claims bytes that never come: a
        greeting or a probe would be swallowed for many seconds as its payload. A good tag inside
        proves that the frame around it is broken. Only short frames are tried, so the search waits
        for at most one of them; `_inner` remembers how far it got.
        """
        buffer = self._buffer
        while True:
            start = buffer.find(MAGIC, self._inner)
            if start < 0:
                self._inner = max(self._inner, len(buffer) - len(MAGIC) + 1)
                return False
            self._inner = start
            length = self._payload_length(start)
            if length == -1:
                return False
            if length is not None and buffer[start + len(MAGIC)] < FrameType.DATA:
                if len(buffer) - start < length + FRAME_OVERHEAD:
                    return False
                if self._good_frame(buffer, start) is not None:
                    return True
            self._inner = start + 1


def _unfinished_magic(buffer: bytearray) -> int:
    """Return how many bytes at the end may be the beginning of a magic."""
    for count in range(len(MAGIC) - 1, 0, -1):
        if buffer.endswith(MAGIC[:count]):
            return count
    return 0
