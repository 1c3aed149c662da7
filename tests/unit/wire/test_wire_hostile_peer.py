"""A peer that has the key and breaks the rules: ProtocolError, and bounded memory."""

from __future__ import annotations

import pytest

from agent.wire import STDIN, STDOUT, Data, ProtocolError
from agent.wire.c_frame import FLIGHT_FRAMES, FrameType
from tests.unit.wire.meeting import forge, meet


def break_rule(**fields):
    host, guest = meet(max_payload=64, window=256)
    return host.receive(forge(guest, **fields), 0.0)


DATA, CREDIT, ACK = FrameType.DATA, FrameType.CREDIT, FrameType.ACK


@pytest.mark.parametrize(
    "fields",
    [
        {"type": DATA, "stream": STDIN, "transmission": 1, "payload": b"x"},
        {"type": DATA, "stream": 9, "transmission": 1, "payload": b"x"},
        {"type": CREDIT, "stream": STDOUT, "transmission": 1, "payload": bytes(8)},
        {"type": CREDIT, "stream": STDIN, "transmission": 1, "payload": bytes(7)},
        {"type": DATA, "stream": 0, "transmission": 1, "payload": b"not json"},
        {"type": DATA, "stream": 0, "transmission": 1, "payload": b"[]"},
        {"type": DATA, "stream": 0, "transmission": 1, "payload": b"[" * 64},
        {"type": ACK, "number": 50, "transmission": 0},
        {"type": ACK, "number": 0, "transmission": 50},
        {"type": ACK, "number": 2, "transmission": 0, "payload": b"\x80"},
    ],
    ids=str,
)
def test_a_rule_broken_is_a_protocol_error(fields):
    with pytest.raises(ProtocolError):
        break_rule(**fields)


def test_data_beyond_the_credit_is_a_protocol_error_after_what_was_good():
    host, guest = meet(max_payload=64, window=256)
    line = b"".join(
        forge(guest, type=DATA, stream=STDOUT, number=n, transmission=n + 1, payload=bytes(64))
        for n in range(5)
    )
    assert host.receive(line, 0.0) == [Data(STDOUT, bytes(64))] * 4
    assert host.deadline() == 0.0
    with pytest.raises(ProtocolError, match="without credit"):
        host.tick(0.0)
    with pytest.raises(ProtocolError, match="without credit"):
        host.receive(b"", 0.0)


def test_an_endless_control_message_is_a_protocol_error():
    host, guest = meet()
    piece = {"type": DATA, "flags": 2, "payload": b"x" * 1000}
    line = [forge(guest, number=n, transmission=n + 1, **piece) for n in range(17)]
    assert host.receive(b"".join(line[:16]), 0.0) == []
    with pytest.raises(ProtocolError, match="control message of more"):
        host.receive(line[16], 0.0)


def test_what_is_held_behind_a_gap_is_bounded():
    host, guest = meet(max_payload=1024, window=4096)
    for n in range(1, 2 * FLIGHT_FRAMES):
        frame = {"type": DATA, "stream": STDOUT, "number": n, "transmission": n}
        host.receive(forge(guest, payload=bytes(1024), **frame), 0.0)
    assert host._receiver.held_bytes == 4096
    assert host.counters.refused == 2 * FLIGHT_FRAMES - 1 - 4
    for n in range(FLIGHT_FRAMES * 4):
        frame = {"type": DATA, "stream": STDOUT, "number": n + 10, "transmission": n + 9000}
        host.receive(forge(guest, payload=b"", **frame), 0.0)
    assert len(host._receiver._held) <= FLIGHT_FRAMES


def test_a_boundless_credit_does_not_make_the_host_buffer_more():
    host, guest = meet(max_payload=64, window=256)
    limit = (2**64 - 1).to_bytes(8, "big")
    grant = forge(guest, type=CREDIT, stream=STDIN, transmission=1, payload=limit)
    host.receive(grant, 0.0)
    assert host.send(STDIN, bytes(100_000)) == 512
