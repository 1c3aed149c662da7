"""Frames between a client and the relay: encode, and parse with a bound before anything is kept.

Sans-IO, used by both ends. Owns the layout's use and nothing of what frames mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.host.relay.c_relay import (
    FRAME,
    FRAME_LIMIT,
    OUTPUT,
    STDIN_HEADER,
    TAKEN,
    FrameKind,
)

_JSON_KINDS = frozenset((FrameKind.HELLO, FrameKind.REQUEST, FrameKind.RESPONSE, FrameKind.EVENT))
_SHORTEST = {
    FrameKind.STDIN: STDIN_HEADER.size,
    FrameKind.STDIN_END: 0,
    FrameKind.TAKEN: TAKEN.size,
    FrameKind.STDOUT: OUTPUT.size,
    FrameKind.STDERR: OUTPUT.size,
}


class FrameError(Exception):
    """The peer does not speak this protocol."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    kind: int
    payload: bytes

    def json(self) -> dict[str, Any]:
        """Return the object of a JSON frame. Raises FrameError when it is none."""
        try:
            value = json.loads(self.payload.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FrameError("a frame that is not JSON") from error
        if not isinstance(value, dict):
            raise FrameError("a frame that is no JSON object")
        return value


def encode_frame(kind: int, *parts: bytes) -> bytes:
    """Return a frame's bytes. Raises ValueError on a payload longer than FRAME_LIMIT."""
    length = sum(map(len, parts))
    if length > FRAME_LIMIT:
        raise ValueError(f"a frame with {length} bytes of payload")
    return b"".join((FRAME.pack(length, kind), *parts))


def encode_json(kind: int, message: Mapping[str, Any]) -> bytes:
    """Return a JSON frame's bytes. Raises ValueError when it is too long."""
    return encode_frame(kind, json.dumps(message, separators=(",", ":")).encode("ascii"))


class FrameParser:
    """Cut a stream of bytes into frames; keeps less than one frame between two calls."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes. Raises FrameError at the first that is none."""
        self._kept += data
        offset = 0
        try:
            while len(self._kept) - offset >= FRAME.size:
                length, kind = FRAME.unpack_from(self._kept, offset)
                if length > FRAME_LIMIT or not (kind in _JSON_KINDS or kind in _SHORTEST):
                    raise FrameError(f"a frame of kind {kind} with {length} bytes")
                if length < _SHORTEST.get(kind, 0):
                    raise FrameError(f"a frame of kind {kind} with {length} bytes only")
                end = offset + FRAME.size + length
                if end > len(self._kept):
                    return
                payload = bytes(self._kept[offset + FRAME.size : end])
                offset = end
                yield Frame(kind, payload)
        finally:
            del self._kept[:offset]
