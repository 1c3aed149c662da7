"""Who proves what to whom, whatever is lost, repeated or replayed."""

from __future__ import annotations

import pytest

from agent.wire import Established, ProtocolError, Role, Writable
from agent.wire import greeting as greeting_module
from agent.wire.c_frame import FrameType
from tests.unit.wire.meeting import exchange, forge, frames_of, make, meet


def test_the_host_speaks_first_and_repeats_itself():
    host, guest = make(Role.HOST), make(Role.GUEST)
    assert guest.data_to_send(0.0) == b""
    first = host.data_to_send(0.0)
    assert first
    assert host.data_to_send(0.9) == b""
    assert host.deadline() == 1.0
    assert host.data_to_send(1.0) == first


def test_both_report_the_session_once():
    host, guest = make(Role.HOST), make(Role.GUEST)
    host_events, guest_events = exchange(host, guest)
    assert [type(event) for event in host_events] == [Established, Writable]
    assert [type(event) for event in guest_events] == [Established, Writable, Writable]
    peer = host_events[0].peer
    assert (peer["version"], peer["epoch"], peer["resumed"]) == (2, 1, False)
    assert guest_events[0].peer["session"] == peer["session"]


def test_a_guest_that_boots_late_answers_all_greetings_with_one():
    host, guest = make(Role.HOST), make(Role.GUEST)
    queued = b"".join(host.data_to_send(float(now)) for now in range(5))
    guest.receive(queued, 5.0)
    answers = frames_of(host, guest.data_to_send(5.0))
    assert [frame.type for frame in answers] == [FrameType.HELLO_ACK]


@pytest.mark.parametrize("lost", ["hello", "answer", "ready"])
def test_any_lost_greeting_is_made_good(lost):
    host, guest = make(Role.HOST), make(Role.GUEST)
    hello = host.data_to_send(0.0)
    if lost != "hello":
        guest.receive(hello, 0.0)
        answer = guest.data_to_send(0.0)
        if lost != "answer":
            host.receive(answer, 0.0)
            assert host.data_to_send(0.0)
    exchange(host, guest, 1.0)
    assert host.established
    assert guest.established


def test_another_key_opens_no_session_and_gets_no_answer():
    host, guest = make(Role.HOST), make(Role.GUEST, key=bytes(32))
    for now in range(10):
        assert guest.receive(host.data_to_send(float(now)), float(now)) == []
        assert guest.data_to_send(float(now)) == b""
    assert guest.counters.forged == 10
    assert (host.established, guest.established) == (False, False)


def test_a_greeting_sent_back_is_no_answer():
    """Each direction has its own key: a mirror proves nothing."""
    host = make(Role.HOST)
    host.receive(host.data_to_send(0.0), 0.0)
    assert not host.established
    assert host.counters.forged == 1


def test_an_answer_to_an_earlier_greeting_is_a_replay():
    host, guest = make(Role.HOST), make(Role.GUEST)
    guest.receive(host.data_to_send(0.0), 0.0)
    answer = guest.data_to_send(0.0)
    host.transport_lost()
    host.data_to_send(0.0)
    assert host.receive(answer, 0.0) == []
    assert not host.established
    assert host.counters.replayed == 1


def test_a_greeting_of_an_earlier_epoch_does_not_disturb():
    host, guest = make(Role.HOST), make(Role.GUEST)
    recorded = host.data_to_send(0.0)
    guest.receive(recorded, 0.0)
    exchange(host, guest)
    host.transport_lost()
    exchange(host, guest, 1.0)
    guest.receive(recorded, 2.0)
    assert guest.established
    assert guest.counters.replayed == 1
    assert guest.data_to_send(2.0) == b""


def test_every_epoch_has_keys_of_its_own():
    host, guest = meet()
    before = forge(guest, type=FrameType.PROBE, transmission=99)
    host.transport_lost()
    exchange(host, guest, 1.0)
    forged = host.counters.forged
    host.receive(before, 1.0)
    assert host.counters.forged == forged + 1


def test_versions_that_differ_are_named_on_both_sides(monkeypatch):
    host = make(Role.HOST)
    hello = host.data_to_send(0.0)
    with monkeypatch.context() as later:
        later.setattr(greeting_module, "PROTOCOL_VERSION", 3)
        later.setattr(greeting_module, "OLDEST_VERSION", 3)
        guest = make(Role.GUEST)
        guest.receive(hello, 0.0)
        refusal = guest.data_to_send(0.0)
    with pytest.raises(ProtocolError, match="guest speaks protocol version 3, this host version 2"):
        host.receive(refusal, 0.0)
    assert not guest.established


def test_a_second_host_process_is_refused_while_the_first_is_known():
    _, guest = meet()
    other = make(Role.HOST, nonce=b"another process!")
    guest.receive(other.data_to_send(0.0), 0.0)
    with pytest.raises(ProtocolError, match="another host"):
        other.receive(guest.data_to_send(0.0), 0.0)
    assert guest.established


def test_a_host_that_restarts_before_any_session_is_welcome():
    first, guest = make(Role.HOST), make(Role.GUEST)
    guest.receive(first.data_to_send(0.0), 0.0)
    guest.data_to_send(0.0)
    second = make(Role.HOST, nonce=b"another process!")
    exchange(second, guest)
    assert second.established
    assert guest.established


@pytest.mark.parametrize(
    "wrong", [{"key": bytes(31)}, {"nonce": b"short"}, {"max_payload": 63}, {"window": 100}]
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=r"key|nonce|max_payload"):
        make(Role.HOST, **wrong)
