"""A host process that ends, and another that goes on with its session from a journal."""

from __future__ import annotations

import json

import pytest

from agent.wire import (
    CONTROL,
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Established,
    Finished,
    Position,
    Reason,
    RefusedError,
    Role,
    SessionState,
    Unopened,
    stream_of,
)
from agent.wire.c_frame import FrameType
from tests.unit.wire.meeting import exchange, frames_of, make, meet

SIZES = {"max_payload": 64, "window": 512}


class Journal:
    """What a relay writes down; `successor` is the process after a kill -9."""

    def __init__(self, host):
        self.lines = []
        self.keep(host)

    def keep(self, host):
        record = host.journal()
        if record is not None:
            self.lines.append(json.dumps(record))

    def state(self):
        state = SessionState()
        for line in self.lines:
            state.apply(json.loads(line))
        return state

    def successor(self, **options):
        nonce = b"successor %6d" % len(self.lines)
        return make(Role.HOST, nonce=nonce, state=self.state(), **{**SIZES, **options})


def begin():
    host, guest = make(Role.HOST, **SIZES), make(Role.GUEST, **SIZES)
    journal = Journal(host)
    exchange(host, guest)
    journal.keep(host)
    return host, guest, journal


def data_of(events, stream):
    return b"".join(e.data for e in events if isinstance(e, Data) and e.stream == stream)


def test_what_was_kept_is_not_sent_again_and_what_was_not_is():
    host, guest, journal = begin()
    guest.send(STDOUT, b"kept")
    exchange(host, guest)
    journal.keep(host)
    guest.send(STDOUT, b" and lost with the process")
    host.receive(guest.data_to_send(0.0), 0.0)  # neither kept nor acknowledged
    successor = journal.successor()
    events, guest_events = exchange(successor, guest, 1.0)
    established = next(event for event in events if isinstance(event, Established))
    assert (established.peer["incarnation"], established.peer["resumed"]) == (2, True)
    assert data_of(events, STDOUT) == b" and lost with the process"
    assert next(e for e in events if isinstance(e, Data)).offset == len(b"kept")
    assert guest_events[0].peer["resumed"] is True
    assert not guest.unacknowledged()


def test_stdin_goes_on_at_the_right_byte_and_lost_requests_are_known():
    host, guest, journal = begin()
    host.send(STDIN, b"a" * 100)
    host.control({"n": 0})
    exchange(host, guest)
    host.send(STDIN, b"b" * 100)
    host.control({"n": 1})
    host.data_to_send(0.0)  # the line swallows it
    successor = journal.successor()
    assert successor.writable(STDIN) == 0
    assert successor.send(STDIN, b"too early") == 0
    events, _ = exchange(successor, guest, 1.0)
    assert Position(STDIN, 100) in events
    assert Position(CONTROL, 1) in events
    assert successor.send(STDIN, b"c") == 1
    successor.control({"n": 1})
    _, events = exchange(successor, guest, 1.0)
    assert events == [Control({"n": 1}), Data(STDIN, b"c")]
    assert events[1].offset == 100


def test_what_the_old_process_left_behind_a_gap_is_not_mixed_with_the_new():
    host, guest, journal = begin()
    host.send(STDIN, b"x" * 64)
    host.data_to_send(0.0)  # lost
    host.send(STDIN, b"y" * 64)
    guest.receive(host.data_to_send(0.0), 0.0)
    assert guest._receiver.held_bytes == 64
    successor = journal.successor()
    events, _ = exchange(successor, guest, 1.0)
    assert Position(STDIN, 0) in events
    successor.send(STDIN, b"z" * 200)
    _, events = exchange(successor, guest, 1.0)
    assert data_of(events, STDIN) == b"z" * 200


def test_half_a_control_message_each_way():
    host, guest, journal = begin()
    guest.control({"text": "g" * 100})
    host.control({"text": "h" * 100})
    host.receive(guest.data_to_send(0.0, 112), 0.0)  # one of two frames
    journal.keep(host)
    guest.receive(host.data_to_send(0.0, 64 + 160), 0.0)
    successor = journal.successor()
    events, guest_events = exchange(successor, guest, 1.0)
    assert Control({"text": "g" * 100}) in events
    assert Position(CONTROL, 0) in events
    assert not [event for event in guest_events if isinstance(event, Control)]


def test_the_end_of_a_stream_is_known_to_the_next_process():
    host, guest, journal = begin()
    host.send(STDIN, b"all")
    host.finish(STDIN)
    guest.finish(STDERR)
    exchange(host, guest)
    journal.keep(host)
    successor = journal.successor()
    events, _ = exchange(successor, guest, 1.0)
    assert Position(STDIN, 3, finished=True) in events
    assert Finished(STDERR) not in events
    guest.finish(STDOUT)
    assert Finished(STDOUT) in exchange(successor, guest, 1.0)[0]


def test_processes_live_on_or_are_known_to_be_lost():
    host, guest, journal = begin()
    host.open(1)
    host.open(2)
    exchange(host, guest)
    guest.send(stream_of(2, STDOUT), b"two")
    exchange(host, guest)
    for which in (STDOUT, STDERR):
        guest.finish(stream_of(1, which))
    host.finish(stream_of(1, STDIN))
    host.receive(guest.data_to_send(0.0), 0.0)
    journal.keep(host)
    guest.receive(host.data_to_send(0.0), 0.0)
    assert guest.data_to_send(0.0)  # "1 is closed": lost
    host.open(3)
    journal.keep(host)
    host.data_to_send(0.0)  # lost as well
    successor = journal.successor()
    events, _ = exchange(successor, guest, 1.0)
    assert Closed(1) in events
    assert Position(stream_of(2, STDIN), 0) in events
    assert Unopened(3) in events
    guest.send(stream_of(2, STDOUT), b" more")
    events, _ = exchange(successor, guest, 1.0)
    assert data_of(events, stream_of(2, STDOUT)) == b" more"
    successor.open(3)
    successor.open(1)


def test_many_processes_one_after_the_other():
    host, guest, journal = begin()
    got = b""
    for turn in range(20):
        guest.send(STDOUT, b"%03d" % turn)
        host.send(STDIN, b"x")
        events, _ = exchange(host, guest, float(turn))
        got += data_of(events, STDOUT)
        for event in events:
            if isinstance(event, Data):
                host.consumed(event.stream, len(event.data))
        journal.keep(host)
        host = journal.successor()
        journal.keep(host)
        guest_events = exchange(host, guest, turn + 0.5)
        got += data_of(guest_events[0], STDOUT)
    assert got == b"".join(b"%03d" % turn for turn in range(20))


def test_a_guest_that_was_restarted_does_not_know_the_session():
    host, guest, journal = begin()
    guest.send(STDOUT, b"before")
    exchange(host, guest)
    journal.keep(host)
    for end in (host, journal.successor()):
        end.transport_lost()
        rebooted = make(Role.GUEST, nonce=b"after the reboot", **SIZES)
        with pytest.raises(RefusedError, match="restarted") as caught:
            exchange(end, rebooted, 1.0)
        assert caught.value.reason == Reason.UNKNOWN


def test_a_host_whose_state_is_too_old_is_refused_and_the_guest_goes_on():
    host, guest, journal = begin()
    old = journal.state()
    guest.send(STDOUT, b"kept by the host, then lost with its disk")
    exchange(host, guest)
    successor = make(Role.HOST, nonce=b"restored a backup", state=old, **SIZES)
    with pytest.raises(RefusedError) as caught:
        exchange(successor, guest, 1.0)
    assert caught.value.reason == Reason.FORGOTTEN
    guest.send(STDOUT, b"!")
    assert data_of(exchange(host, guest, 2.0)[0], STDOUT) == b"!"


def test_a_process_killed_before_the_session_was_established():
    host = make(Role.HOST, **SIZES)
    journal = Journal(host)
    guest = make(Role.GUEST, **SIZES)
    guest.receive(host.data_to_send(0.0), 0.0)
    guest.data_to_send(0.0)
    successor = journal.successor()
    events, _ = exchange(successor, guest, 1.0)
    assert Position(STDIN, 0) in events
    assert guest.send(STDOUT, b"hello") == 5
    assert data_of(exchange(successor, guest, 1.0)[0], STDOUT) == b"hello"


def test_the_predecessor_cannot_come_back():
    host, guest, journal = begin()
    successor = journal.successor()
    exchange(successor, guest, 1.0)
    host.transport_lost()
    replayed = guest.counters.replayed
    guest.receive(host.data_to_send(2.0), 2.0)
    assert guest.counters.replayed == replayed + 1
    assert guest.established


@pytest.mark.parametrize("wrong", [{"max_payload": 64, "window": 100}, {"role": Role.GUEST}])
def test_a_successor_takes_no_less(wrong):
    _, _, journal = begin()
    options = {"role": Role.HOST, **SIZES, **wrong}
    role = options.pop("role")
    with pytest.raises(ValueError, match="session"):
        make(role, state=journal.state(), **options)


@pytest.mark.parametrize(
    "record",
    [
        {"expected": -1},
        {"expected": "1"},
        {"session": "00"},
        {"session": "zz"},
        {"streams": {"2": [1, 2]}},
        {"streams": {"2": [1, True, False]}},
        {"streams": [1]},
        {"processes": {"70000": True}},
        {"control": "x"},
    ],
    ids=str,
)
def test_a_journal_that_is_none(record):
    with pytest.raises(ValueError, match=r".+"):
        SessionState().apply(record)


def test_a_journal_may_be_begun_anew_with_one_record():
    host, guest, journal = begin()
    host.open(1)
    host.open(2)
    exchange(host, guest)
    guest.control({"text": "g" * 100})
    guest.send(stream_of(2, STDERR), b"two")
    guest.finish(stream_of(1, STDOUT))
    host.receive(guest.data_to_send(0.0, 112), 0.0)  # half a control message
    journal.keep(host)
    exchange(host, guest)
    journal.keep(host)
    again = SessionState()
    again.apply(json.loads(json.dumps(journal.state().record())))
    assert again == journal.state()
    assert again.processes == {0, 1, 2}
    assert again.streams[stream_of(2, STDERR)] == (3, 0, False)


def test_a_journal_says_nothing_when_nothing_has_changed():
    host, guest = meet()
    assert host.journal()["joined"] is True
    assert host.journal() is None
    host.send(STDIN, b"x")
    exchange(host, guest)
    assert host.journal() is None


def test_a_position_for_the_process_before_is_void():
    """It comes again, for nobody has acknowledged it, and is older than the truth."""
    _, guest, journal = begin()
    second = journal.successor()
    journal.keep(second)
    guest.receive(second.data_to_send(1.0), 1.0)
    second.receive(guest.data_to_send(1.0), 1.0)
    guest.receive(second.data_to_send(1.0), 1.0)
    journal.keep(second)  # established, and no more
    assert Position(STDIN, 0) in second.receive(guest.data_to_send(1.0), 1.0)
    second.send(STDIN, b"x" * 50)
    acknowledgement, data = frames_of(guest, second.data_to_send(1.0))
    assert acknowledgement.type == FrameType.ACK  # is lost
    resealed = second._handshake.session_keys.ours.seal(data)
    assert guest.receive(resealed, 1.0) == [Data(STDIN, b"x" * 50)]
    third = journal.successor()
    events, _ = exchange(third, guest, 2.0)
    assert Position(STDIN, 0) not in events
    assert Position(STDIN, 50) in events


def test_a_guest_keeps_no_journal():
    _, guest = meet()
    with pytest.raises(ValueError, match="guest"):
        guest.journal()
