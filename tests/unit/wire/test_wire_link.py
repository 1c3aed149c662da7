"""Order, repair, probes, resumption; replays and forgeries are dropped and counted."""

from __future__ import annotations

import itertools

from agent.wire import STDIN, STDOUT, Data, Established
from agent.wire.c_frame import FrameType
from tests.unit.wire.meeting import exchange, frames_of, meet


def test_replayed_frames_are_dropped_and_counted():
    host, guest = meet()
    guest.send(STDOUT, b"once")
    line = guest.data_to_send(0.0)
    assert host.receive(line, 0.0) == [Data(STDOUT, b"once")]
    assert host.receive(line * 3, 0.0) == []
    assert host.counters.replayed == 3
    acknowledgement = host.data_to_send(0.0)
    guest.receive(acknowledgement * 4, 0.0)
    assert guest.counters.replayed == 3


def test_forged_frames_are_dropped_and_counted():
    host, guest = meet()
    guest.send(STDOUT, b"true")
    line = bytearray(guest.data_to_send(0.0))
    line[-20] ^= 1
    assert host.receive(bytes(line), 0.0) == []
    assert host.counters.forged == 1


def test_a_gap_is_repaired_by_the_echo_and_no_clock():
    """The frame behind the lost one brings an echo; the lost one is resent at once, alone."""
    host, guest = meet(max_payload=64, window=4096)
    guest.send(STDOUT, bytes(range(192)))
    first, second, third = (guest.data_to_send(0.0, 112) for _ in range(3))
    assert host.receive(second + third, 0.0) == []
    guest.receive(host.data_to_send(0.0), 0.0)
    events = host.receive(guest.data_to_send(0.0), 0.0)
    assert b"".join(event.data for event in events) == bytes(range(192))
    assert guest.counters.resent == 1
    assert guest.counters.probes == 0
    assert first


def test_the_last_frame_lost_is_found_by_a_probe_and_not_resent_by_time():
    host, guest = meet()
    guest.send(STDOUT, b"last")
    guest.data_to_send(0.0)  # lost
    due = guest.deadline()
    assert due is not None
    guest.tick(due)
    probe = guest.data_to_send(due)
    assert [frame.type for frame in frames_of(host, probe)] == [FrameType.PROBE]
    host.receive(probe, due)
    guest.receive(host.data_to_send(due), due)
    assert host.receive(guest.data_to_send(due), due) == [Data(STDOUT, b"last")]


def test_probes_back_off_and_stop_when_answered():
    host, guest = meet()
    guest.send(STDOUT, b"x")
    guest.data_to_send(0.0)
    times = []
    for _ in range(8):
        times.append(guest.deadline())
        guest.tick(times[-1])
        probe = guest.data_to_send(times[-1])
    waits = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert waits == sorted(waits)
    assert waits[-1] == 2.0
    now = times[-1]
    host.receive(probe, now)
    exchange(host, guest, now)
    assert guest.deadline() is None
    assert not guest.unacknowledged()


def test_a_cut_resumes_exactly_in_both_directions():
    host, guest = meet(max_payload=64, window=4096)
    guest.send(STDOUT, b"1" * 200)
    host.send(STDIN, b"a" * 200)
    host.receive(guest.data_to_send(0.0, 170), 0.0)  # one frame and a half
    guest.receive(host.data_to_send(0.0)[:300], 0.0)
    host.transport_lost()
    guest.transport_lost()
    assert not host.established
    assert guest.send(STDOUT, b"2") == 1  # credit lasts, the line does not matter
    host_events, guest_events = exchange(host, guest, 1.0)
    established = next(event for event in host_events if isinstance(event, Established))
    assert (established.peer["epoch"], established.peer["resumed"]) == (2, True)
    assert b"".join(e.data for e in host_events if isinstance(e, Data)) == b"1" * 136 + b"2"
    assert b"".join(e.data for e in guest_events if isinstance(e, Data))[-72:] == b"a" * 72
    assert not host.unacknowledged()


def test_a_cut_that_only_the_guest_saw_is_no_cut():
    host, guest = meet()
    guest.send(STDOUT, b"before")
    guest.data_to_send(0.0)
    guest.transport_lost()
    assert not guest.established
    exchange(host, guest, 0.5)
    assert guest.established
    assert not guest.unacknowledged()


def test_a_requested_probe_is_answered():
    host, guest = meet()
    host.request_probe()
    exchange(host, guest, 5.0)
    assert host.last_heard == 5.0
