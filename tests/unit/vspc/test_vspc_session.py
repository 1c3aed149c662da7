"""One connection's dialogue, byte for byte as a recorded one, and what a VM may get wrong."""

from __future__ import annotations

import pytest

from agent.host.vspc.c_vspc import KNOWN_SUBOPTIONS, REPLIES, Code
from agent.host.vspc.identity import Claims
from agent.host.vspc.session import (
    Abort,
    Begin,
    Claimed,
    Complete,
    Peer,
    ProxyAsked,
    Ready,
    Session,
)
from agent.host.vspc.telnet import Data, TelnetError, suboption
from tests.unit.vspc.fakes import KNOWN, OPENING, UUID

PROXY_OPENING = bytes.fromhex("fffb00 fffb03 fffb01 fffd00 fffd03 fffde8")
OURS = bytes.fromhex("fffae8 01") + KNOWN_SUBOPTIONS + bytes.fromhex("fff0")


def session() -> Session:
    made = Session("192.0.2.1")
    assert said(made) == PROXY_OPENING
    return made


def said(session: Session) -> bytes:
    """Return what the proxy has to say, and let it be written."""
    out = bytes(session.outgoing)
    session.outgoing.clear()
    session.taken()
    return out


def hear(session: Session, line: str | bytes) -> list[object]:
    return list(session.receive(bytes.fromhex(line) if isinstance(line, str) else line))


def sub(code: int, parameters: bytes = b"") -> bytes:
    return suboption(232, bytes([code]) + parameters)


def test_the_codes_are_the_document_s() -> None:
    vmotion = (40, 41, 43, 44, 45, 46, 48)
    assert list(KNOWN_SUBOPTIONS) == [0, 1, 2, 3, *vmotion, 70, 71, 73, *range(80, 88)]


def test_the_recorded_dialogue_of_a_source() -> None:
    source = session()
    assert hear(source, OPENING) == [Ready()]
    assert said(source) == b""
    known = "fffae8 00 00010203 28292b2c2d2e30 464749 fff0"
    assert hear(source, known) == [Claimed()]
    assert source.identified  # it knows no words for who it is
    assert source.claims == Claims("192.0.2.1", uuid="", name="")
    uri = b"tcp://127.0.0.1:50000"
    assert hear(source, bytes.fromhex("fffae8 4643") + uri + b"\xff\xf0") == [ProxyAsked()]
    assert (source.claims.direction, source.claims.uri) == ("client", uri.decode())
    source.will_proxy()
    assert said(source) == OURS + bytes.fromhex("fffae8 47 fff0")
    assert hear(source, "41 ffff 42") == [Data(b"A\xffB")]
    assert hear(source, "fffae8 28 00000007 fff0") == [Begin(b"\0\0\0\7")]
    source.go_ahead(b"\0\0\0\7\xff\1\2\3")
    assert said(source) == bytes.fromhex("fffae8 29 00000007 ffff010203 fff0")
    assert hear(source, b"tail-old") == [Data(b"tail-old")]
    assert hear(source, "fffae8 30 fff0") == [Abort(b"")]


def test_the_recorded_dialogue_of_a_target() -> None:
    target = Session("192.0.2.2")
    known = bytes.fromhex("fffae8 00 00010203 28292b2c2d2e30 464749 fff0")
    peer = bytes.fromhex("fffae8 2c 00000007 ffff010203 fff0")
    cookie = b"\0\0\0\7\xff\1\2\3"
    # All at once, and before the proxy's own options have left.
    assert hear(target, OPENING + known + peer) == [Ready(), Claimed(), Peer(cookie)]
    target.peer_ok(cookie)
    ok = bytes.fromhex("fffae8 2d 00000007 ffff010203 fff0")
    assert said(target) == PROXY_OPENING + OURS + ok
    assert hear(target, "fffae8 2e 00000007 fff0") == [Complete(b"\0\0\0\7")]
    target.send(b"to-vm\xff")
    assert said(target) == b"to-vm\xff\xff"


def test_who_it_is_is_asked_in_words_that_it_knows() -> None:
    asked = session()
    hear(asked, OPENING)
    hear(asked, sub(0, bytes([0, 1, 70, 80, 81, 82, 83, 84])))  # 84, but not GET-VM-BIOS-UUID
    assert said(asked) == OURS + sub(81) + sub(83)
    assert not asked.identified
    assert hear(asked, sub(80, b"50 1c 62 c0 f1 37 4a a0-8d 3e 5c 2b 1e 6f 0a 11")) == [Claimed()]
    assert asked.claims.uuid == UUID
    assert not asked.identified
    hear(asked, sub(82, "täst\n\x1b[2J".encode()))
    assert asked.identified
    assert asked.claims.name == "täst\ufffd\ufffd[2J"  # one printable line, whatever it says


def test_the_list_of_known_words_is_answered_once() -> None:
    twice = session()
    hear(twice, sub(0, b"\0"))
    assert said(twice) == OURS
    assert hear(twice, sub(0, KNOWN)) == []
    assert said(twice) == b""


def test_a_vm_without_a_vc_uuid_is_known_by_its_bios_uuid() -> None:
    plain = session()
    hear(plain, sub(0, KNOWN))
    for code in (86, 84):
        hear(plain, sub(code, UUID.upper().encode()))
    assert plain.claims.uuid is None  # its VC UUID may still come
    hear(plain, sub(Code.UNKNOWN_SUBOPTION_RCVD_1, bytes([Code.GET_VM_VC_UUID])))
    hear(plain, sub(82, b"x"))
    assert plain.identified
    assert plain.claims.uuid == UUID


def test_unknown_words_are_said_to_be_so_once() -> None:
    strange = session()
    assert hear(strange, sub(99, b"x") + sub(99) + sub(Code.WILL_PROXY)) == []
    assert said(strange) == sub(3, b"\x63") + sub(3, b"\x47")


def test_suboptions_of_other_options_are_left_alone() -> None:
    assert hear(session(), "fffa18 00 7674 fff0") == []


def test_nothing_may_be_sent_before_binary_is_agreed() -> None:
    early = session()
    assert not early.ready
    assert hear(early, "fffd00") == [Ready()]
    assert early.ready


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"\xff\xfc\xe8", "option 232"),
        (b"\xff\xfc\x00", "BINARY"),
        (b"\xff\xfe\x00", "BINARY"),
        (suboption(232, b""), "no code"),
        (sub(70, b"X" + b"uri"), "no direction"),
        (sub(70), "no direction"),
        (sub(80, b"not hexadecimal"), "as a UUID"),
        (sub(80, b"\xff" * 16), "as a UUID"),
        (sub(80, UUID.encode()) + sub(80, UUID.replace("5", "6").encode()), "changed its UUID"),
    ],
)
def test_a_vm_that_cannot_be_served(line: bytes, complaint: str) -> None:
    with pytest.raises(TelnetError, match=complaint):
        hear(session(), line)


def test_asking_for_a_second_service() -> None:
    greedy = session()
    hear(greedy, sub(70, b"Ca"))
    greedy.will_proxy()
    with pytest.raises(TelnetError, match="twice"):
        hear(greedy, sub(70, b"Cb"))


def test_a_vm_that_reads_no_answers_gets_only_so_many() -> None:
    deaf = session()
    back_and_forth = bytes.fromhex("fffd01 fffe01") * REPLIES
    with pytest.raises(TelnetError, match="unread"):
        hear(deaf, back_and_forth)
    assert len(deaf.outgoing) < 10 * REPLIES
