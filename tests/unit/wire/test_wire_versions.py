"""What the ends agree on before they talk, and what the ends of other versions are told."""

from __future__ import annotations

import pytest

from agent.wire import RefusedError, Role
from agent.wire import greeting as greeting_module
from agent.wire.c_frame import GREETING, GREETING_FIELDS, FrameType
from agent.wire.frames import Frame
from tests.unit.wire.meeting import exchange, frames_of, make


def test_features_of_a_later_version_are_ignored():
    host, guest = make(Role.HOST, features=(1 << 63) | 1), make(Role.GUEST)
    events, guest_events = exchange(host, guest)
    assert events[0].peer["features"] == guest_events[0].peer["features"] == 1


def test_the_newest_common_version_is_spoken(monkeypatch):
    """A host that speaks 2 to 3 and a guest that speaks 2: both speak 2."""
    from agent.wire import handshake

    guest = make(Role.GUEST)
    with monkeypatch.context() as later:
        later.setattr(handshake, "PROTOCOL_VERSION", 3)
        host = make(Role.HOST)
    events, guest_events = exchange(host, guest)
    assert events[0].peer["version"] == guest_events[0].peer["version"] == 2


def hello_of_version_1(host):
    """Return a HELLO as version 1 had it: 72 bytes, and 0 where `oldest` is now."""
    payload = bytearray(host._handshake._hello[:72])
    payload[0:4] = b"\0\1\1\0"
    return host._handshake.greeting_keys.ours.seal(Frame(FrameType.HELLO, payload=bytes(payload)))


def test_a_host_of_version_1_is_told_so():
    host, guest = make(Role.HOST), make(Role.GUEST)
    assert guest.receive(hello_of_version_1(host), 0.0) == []
    (refusal,) = frames_of(host, guest.data_to_send(0.0))
    assert refusal.type == FrameType.REFUSE
    assert refusal.payload[:4] == b"\0\2\0\1"  # where version 1 has it as well
    assert refusal.payload[4:20] == host._handshake._nonce


def test_a_guest_of_version_1_is_understood():
    host, guest = make(Role.HOST), make(Role.GUEST)
    payload = b"\0\1\0\1" + host._handshake._nonce
    refusal = guest._handshake.greeting_keys.ours.seal(Frame(FrameType.REFUSE, payload=payload))
    with pytest.raises(RefusedError, match="guest speaks protocol version 1, this host version 2"):
        host.receive(refusal, 0.0)


def test_a_longer_greeting_is_read_as_far_as_it_is_known():
    greeting = make(Role.HOST)._handshake._hello
    longer = greeting_module.Greeting.decode(greeting + b"later", Role.HOST)
    assert longer == greeting_module.Greeting.decode(greeting, Role.HOST)
    assert GREETING.size == len(greeting)
    assert len(GREETING_FIELDS) == len(longer)
