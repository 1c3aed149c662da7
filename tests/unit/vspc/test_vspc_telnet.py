"""Telnet's bytes and options, with the bytes of the specifications and of a recorded dialogue."""

from __future__ import annotations

import pytest

from agent.host.vspc.c_telnet import (
    BINARY,
    DO,
    DONT,
    ECHO,
    MAX_SUBOPTION_BYTES,
    SGA,
    WILL,
    WONT,
)
from agent.host.vspc.options import Options, State
from agent.host.vspc.telnet import (
    Data,
    Negotiation,
    Suboption,
    TelnetDecoder,
    TelnetError,
    escape,
    suboption,
)


def decode(*pieces: bytes) -> list[object]:
    decoder = TelnetDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ("41 00 0d 00 0d 0a 42", [Data(b"A\0\r\0\r\nB")]),  # neither NUL nor CR means anything
        ("41 ffff 42", [Data(b"A\xffB")]),
        ("ffff ffff", [Data(b"\xff\xff")]),
        ("fffbe8 fffd00", [Negotiation(WILL, 232), Negotiation(DO, 0)]),
        ("ffff fffb00 ffff", [Data(b"\xff"), Negotiation(WILL, 0), Data(b"\xff")]),
        ("41 fff1 42", [Data(b"A"), Data(b"B")]),  # NOP
        ("fffae8 29 00000007 ffff010203 fff0", [Suboption(232, b"\x29\0\0\0\7\xff\1\2\3")]),
        ("fffae8 fff0", [Suboption(232, b"")]),
        ("fffaffff 01 fff0", [Suboption(255, b"\1")]),  # EXOPL, doubled like any other byte
        ("41 fff0 42", [Data(b"A"), Data(b"B")]),  # an end without a beginning
    ],
)
def test_decoding(line: str, events: list[object]) -> None:
    assert decode(bytes.fromhex(line)) == events


def test_a_suboption_split_anywhere() -> None:
    line = bytes.fromhex("fffae8 29 ffff ffff fff0")
    for at in range(1, len(line)):
        assert decode(line[:at], line[at:]) == [Suboption(232, b"\x29\xff\xff")]


def test_an_odd_byte_waits_for_its_other_half() -> None:
    assert decode(b"a\xff", b"\xffb") == [Data(b"a"), Data(b"\xffb")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"\xff\xfa\xe8" + bytes(MAX_SUBOPTION_BYTES), "longer than"),
        (b"\xff\xfa\xe8\x28\xff\xfb\x00", "broken off"),
        (b"\xff\xfa\xff\xf0", "no option"),
    ],
)
def test_what_is_not_telnet(line: bytes, complaint: str) -> None:
    with pytest.raises(TelnetError, match=complaint):
        decode(line)


def test_a_suboption_without_end_is_not_kept() -> None:
    endless = b"\xff\xfa\xe8" + bytes(2 * MAX_SUBOPTION_BYTES)
    with pytest.raises(TelnetError, match="longer than"):
        decode(*(bytes([byte]) for byte in endless))


def test_encoding_doubles_inside_suboptions_too() -> None:
    assert escape(b"a\xff\0") == b"a\xff\xff\0"
    assert suboption(232, b"\x29\xff\1") == bytes.fromhex("fffae8 29 ffff 01 fff0")


# --- options -------------------------------------------------------------------------------------


def proxy() -> Options:
    options = Options((BINARY, SGA, ECHO), (BINARY, SGA, 232))
    assert options.opening() == bytes.fromhex("fffb00 fffb03 fffb01 fffd00 fffd03 fffde8")
    return options


def test_offers_that_cross_are_the_agreement() -> None:
    options = proxy()
    crossing = [(WILL, 232), (DO, 0), (WILL, 0), (DO, 3), (WILL, 3), (DO, 1)]
    assert b"".join(options.receive(*offer) for offer in crossing) == b""
    assert options.ours(BINARY) is options.theirs(BINARY) is options.theirs(232) is State.ON


def test_two_sides_that_ask_and_answer_come_to_an_end() -> None:
    left = Options((BINARY, ECHO), (SGA, 232))
    right = Options((BINARY, 232), (BINARY, ECHO, 24))
    to_right, to_left = left.opening(), right.opening()
    for _ in range(4):
        answers = [
            b"".join(
                side.receive(event.command, event.option)
                for event in decode(line)
                if isinstance(event, Negotiation)
            )
            for side, line in ((right, to_right), (left, to_left))
        ]
        to_left, to_right = answers
    assert (to_left, to_right) == (b"", b"")


def test_what_is_not_ours_is_refused_once() -> None:
    options = proxy()
    assert options.receive(DO, 24) == bytes([255, WONT, 24])
    assert options.receive(DO, 24) == b""
    assert options.receive(WILL, ECHO) == bytes([255, DONT, ECHO])
    assert options.receive(WILL, ECHO) == b""


def test_an_option_that_is_taken_back() -> None:
    options = proxy()
    options.receive(DO, ECHO)
    assert options.receive(DONT, ECHO) == bytes([255, WONT, ECHO])
    assert options.receive(DONT, ECHO) == b""
    assert options.receive(DO, ECHO) == bytes([255, WILL, ECHO])
