"""Telnet's bytes: a decoder and the encodings. Sans-IO; knows no option's meaning.

NUL and CR are data like any other byte: the line carries a binary protocol, so what RFC 854 makes
of them for terminals would damage it. Plain data, doubled IACs included, goes through at C speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.host.vspc.c_telnet import DO, DONT, IAC, MAX_SUBOPTION_BYTES, SB, SE, WILL, WONT

_IAC = bytes([IAC])
_DOUBLED = _IAC * 2
_END = bytes([IAC, SE])
_DATA = re.compile(rb"(?:[^\xff]++|\xff\xff)*+", re.DOTALL)
_NEGOTIATIONS = frozenset({WILL, WONT, DO, DONT})


class TelnetError(Exception):
    """The other side does not speak telnet as it should; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the line, as the sender had them before doubling."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Negotiation:
    """WILL, WONT, DO or DONT, and its option."""

    command: int
    option: int


@dataclass(frozen=True, slots=True)
class Suboption:
    """What stood between IAC SB and IAC SE, doubled bytes single again."""

    option: int
    payload: bytes


TelnetEvent = Data | Negotiation | Suboption


def escape(data: bytes) -> bytes:
    """Return `data` as it goes on the line."""
    return data.replace(_IAC, _DOUBLED)


def negotiation(command: int, option: int) -> bytes:
    """Return WILL, WONT, DO or DONT for an option."""
    return bytes([IAC, command, option])


def suboption(option: int, payload: bytes) -> bytes:
    """Return a suboption; RFC 855 has IACs doubled inside it too."""
    return bytes([IAC, SB, option]) + escape(payload) + _END


class TelnetDecoder:
    """Turn bytes, split anywhere, into events; holds at most one unfinished suboption.

    Commands that carry no option (NOP, AYT, BREAK, ...) mean nothing on this line and are dropped.
    """

    __slots__ = ("_unfinished",)

    def __init__(self) -> None:
        self._unfinished = b""  # begins with an IAC

    def feed(self, data: bytes) -> Iterator[TelnetEvent]:
        """Yield the events that `data` completes. Raises TelnetError."""
        if self._unfinished:
            data = self._unfinished + data
            self._unfinished = b""
        if IAC not in data:
            if data:
                yield Data(data)
            return
        if data.replace(_DOUBLED, b"").find(_IAC) < 0:
            # Without commands every run of IACs is even, so pairing from the left is right.
            yield Data(data.replace(_DOUBLED, _IAC))
            return
        position = 0
        while position < len(data):
            match = _DATA.match(data, position)
            assert match is not None  # the pattern matches the empty string
            end = match.end()
            if end > position:
                yield Data(data[position:end].replace(_DOUBLED, _IAC))
            size, event = _command(data, end)
            if not size:
                self._unfinished = data[end:]
                return
            if event is not None:
                yield event
            position = end + size


def _command(data: bytes, start: int) -> tuple[int, TelnetEvent | None]:
    """Read the command at `start`; return its size, 0 when it is not complete, and its event."""
    if len(data) - start < 2:
        return 0, None
    command = data[start + 1]
    if command == SB:
        return _suboption(data, start)
    if command not in _NEGOTIATIONS:
        return 2, None
    if len(data) - start < 3:
        return 0, None
    return 3, Negotiation(command, data[start + 2])


def _suboption(data: bytes, start: int) -> tuple[int, TelnetEvent | None]:
    """Read the suboption at `start`, as `_command` does."""
    match = _DATA.match(data, start + 2)
    assert match is not None  # as above
    end = match.end()
    if end - start > MAX_SUBOPTION_BYTES:
        raise TelnetError(f"a suboption is longer than {MAX_SUBOPTION_BYTES} bytes")
    if len(data) - end < 2:
        return 0, None
    if data[end + 1] != SE:
        raise TelnetError(f"a suboption is broken off by command {data[end + 1]}")
    content = data[start + 2 : end].replace(_DOUBLED, _IAC)
    if not content:
        raise TelnetError("a suboption has no option")
    return end + 2 - start, Suboption(content[0], content[1:])
