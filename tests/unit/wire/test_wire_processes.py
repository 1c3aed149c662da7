"""Streams of further processes: opened, used, closed by both ends, forgotten, and used again."""

from __future__ import annotations

import sys

import pytest

from agent.wire import (
    LAST_PROCESS,
    MAX_PROCESSES,
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Finished,
    Opened,
    ProtocolError,
    kind_of,
    process_of,
    stream_of,
)
from agent.wire.c_frame import FrameType
from tests.unit.wire.meeting import exchange, forge, meet


def test_streams_are_numbered_by_process():
    assert [stream_of(0, which) for which in (STDIN, STDOUT, STDERR)] == [STDIN, STDOUT, STDERR]
    assert stream_of(LAST_PROCESS, STDERR) == 65535
    assert (process_of(stream_of(7, STDOUT)), kind_of(stream_of(7, STDOUT))) == (7, STDOUT)
    with pytest.raises(ValueError, match="process"):
        stream_of(LAST_PROCESS + 1, STDIN)


def test_a_process_comes_before_what_is_said_of_it():
    host, guest = meet()
    host.open(3)
    host.control({"type": "exec", "process": 3})
    _, events = exchange(host, guest)
    assert events[:2] == [Opened(3), Control({"type": "exec", "process": 3})]
    assert guest.writable(stream_of(3, STDOUT)) == 131072
    assert host.writable(stream_of(3, STDIN)) == 131072


def end(host, guest, process):
    """Let a process end in the usual order; return the events of both."""
    guest.finish(stream_of(process, STDOUT))
    guest.finish(stream_of(process, STDERR))
    host.finish(stream_of(process, STDIN))
    return exchange(host, guest)


def test_a_process_that_has_ended_is_forgotten_by_both():
    host, guest = meet()
    host.open(1)
    exchange(host, guest)
    guest.send(stream_of(1, STDOUT), b"hi")
    host.send(stream_of(1, STDIN), b"there")
    host_events, guest_events = end(host, guest, 1)
    assert Data(stream_of(1, STDOUT), b"hi") in host_events
    assert Closed(1) not in host_events + guest_events  # neither has consumed it
    guest.consumed(stream_of(1, STDIN), 5)
    assert guest.tick(0.0) == [Closed(1)]
    assert exchange(host, guest) == ([], [])
    host.consumed(stream_of(1, STDOUT), 2)
    assert host.deadline() == 0.0
    assert host.tick(0.0) == [Closed(1)]
    for gone in (lambda: host.writable(stream_of(1, STDIN)), lambda: guest.writable(6)):
        with pytest.raises(ValueError, match="does not write"):
            gone()


def test_a_number_may_be_used_again_and_begins_anew():
    host, guest = meet(max_payload=64, window=256)
    for turn in range(50):
        host.open(LAST_PROCESS)
        exchange(host, guest)
        text = b"%d" % turn
        assert guest.send(stream_of(LAST_PROCESS, STDERR), text * 60) == min(60 * len(text), 256)
        host_events, _ = exchange(host, guest)
        data = [event for event in host_events if isinstance(event, Data)]
        assert data[0].offset == 0
        for event in data:
            host.consumed(event.stream, len(event.data))
        host_events, guest_events = end(host, guest, LAST_PROCESS)
        assert Closed(LAST_PROCESS) in host_events
        assert Closed(LAST_PROCESS) in guest_events


def test_the_main_process_stays():
    host, guest = meet()
    host_events, guest_events = end(host, guest, 0)
    assert Finished(STDOUT) in host_events
    assert Finished(STDIN) in guest_events
    assert host.writable(STDIN) == 0
    assert not [event for event in host_events + guest_events if isinstance(event, Closed)]


def test_the_host_opens_what_is_free_and_no_more():
    host, guest = meet()
    host.open(1)
    with pytest.raises(ValueError, match="is open"):
        host.open(1)
    with pytest.raises(ValueError, match="is open"):
        host.open(0)
    with pytest.raises(ValueError, match="no process"):
        host.open(LAST_PROCESS + 1)
    with pytest.raises(ValueError, match="host"):
        guest.open(2)
    for process in range(2, MAX_PROCESSES + 1):
        host.open(process)
    with pytest.raises(ValueError, match="are open"):
        host.open(MAX_PROCESSES + 1)
    _, events = exchange(host, guest)
    assert [event.process for event in events if isinstance(event, Opened)] == list(
        range(1, MAX_PROCESSES + 1)
    )


def test_an_idle_process_costs_little():
    """The streams of one more process, credit and all: less than two kilobytes in the guest."""
    host, guest = meet()
    host.open(1)
    exchange(host, guest)
    streams = [*guest._streams._outgoing.values(), *guest._streams._incoming.values()]
    ours = [stream for stream in streams if process_of(stream.stream) == 1]
    assert len(ours) == 3
    seen: dict[int, int] = {}
    for stream in ours:
        for held in (stream, *(getattr(stream, name) for name in type(stream).__slots__)):
            if held is not guest._streams.pool:
                seen[id(held)] = sys.getsizeof(held)
    assert sum(seen.values()) < 2000


def test_a_hundred_processes_take_turns():
    host, guest = meet(max_payload=64, window=6400)
    for process in range(1, 101):
        host.open(process)
    exchange(host, guest)
    for process in range(1, 101):
        guest.send(stream_of(process, STDOUT), bytes(6400))
    host.receive(guest.data_to_send(0.0, 1 << 20), 0.0)
    events = host.receive(guest.data_to_send(0.0, 1 << 20), 0.0)
    events += exchange(host, guest)[0]
    order = [process_of(event.stream) for event in events if isinstance(event, Data)]
    rounds = [order[i : i + 100] for i in range(0, 300, 100)]
    assert all(len(set(turn)) == 100 for turn in rounds)


@pytest.mark.parametrize("kind", [FrameType.OPEN, FrameType.CLOSED])
def test_a_guest_that_opens_or_closes_out_of_turn(kind):
    host, guest = meet()
    host.open(1)
    exchange(host, guest)
    with pytest.raises(ProtocolError, match="stream 4"):
        host.receive(forge(guest, type=kind, stream=4, transmission=1), 0.0)


@pytest.mark.parametrize("stream", [0, 4, 5])
def test_a_host_that_opens_what_is_open_or_no_process(stream):
    host, guest = meet()
    host.open(1)
    exchange(host, guest)
    with pytest.raises(ProtocolError, match="open"):
        guest.receive(forge(host, type=FrameType.OPEN, stream=stream, transmission=1), 0.0)


def test_control_passes_when_every_data_stream_is_stalled():
    """Nobody reads any of 303 streams: their credit is used up, and bytes wait behind it."""
    host, guest = meet(max_payload=64, window=640)
    for process in range(1, 101):
        host.open(process)
    exchange(host, guest)
    for end, kinds in ((guest, (STDOUT, STDERR)), (host, (STDIN,))):
        for process in range(101):
            for which in kinds:
                assert end.send(stream_of(process, which), bytes(6400)) == 640
    exchange(host, guest)
    assert not any(guest.writable(stream_of(process, STDOUT)) for process in range(101))
    host.control({"type": "stop"})
    guest.control({"type": "exited"})
    assert guest.receive(host.data_to_send(0.0, 100), 0.0) == [Control({"type": "stop"})]
    assert host.receive(guest.data_to_send(0.0, 200), 0.0) == [Control({"type": "exited"})]


def test_credit_that_the_end_of_its_stream_has_overtaken_is_ignored():
    host, guest = meet()
    grant = {"type": FrameType.CREDIT, "payload": bytes(8)}
    assert (
        guest.receive(forge(host, stream=stream_of(9, STDOUT), transmission=1, **grant), 0.0) == []
    )
    with pytest.raises(ProtocolError, match="credit"):
        guest.receive(
            forge(host, stream=stream_of(9, STDIN), number=1, transmission=2, **grant), 0.0
        )
