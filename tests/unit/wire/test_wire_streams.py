"""Credit, half close, priority, and turns."""

from __future__ import annotations

import pytest

from agent.wire import (
    CONTROL_LIMIT,
    STDERR,
    STDIN,
    STDOUT,
    Control,
    ControlFullError,
    Data,
    Finished,
    Writable,
)
from agent.wire.c_frame import CONTROL_QUEUE, DATA_FRAMES
from tests.unit.wire.meeting import exchange, frames_of, meet


def test_streams_arrive_in_order_and_end():
    host, guest = meet()
    assert guest.send(STDOUT, b"out") == 3
    guest.send(STDERR, b"err")
    guest.finish(STDOUT)
    guest.control({"type": "exited", "code": 0})
    events, _ = exchange(host, guest)
    assert Data(STDOUT, b"out") in events
    assert Data(STDERR, b"err") in events
    assert Finished(STDOUT) in events
    assert Finished(STDERR) not in events
    assert not guest.unacknowledged()


def test_a_stream_takes_what_the_peer_grants_and_says_when_it_takes_more():
    host, guest = meet(max_payload=64, window=1000)
    assert guest.writable(STDOUT) == 1000
    assert guest.send(STDOUT, bytes(1500)) == 1000
    assert guest.send(STDOUT, b"more") == 0
    events, woken = exchange(host, guest)
    assert sum(len(event.data) for event in events if isinstance(event, Data)) == 1000
    assert woken == []
    assert guest.send(STDOUT, b"more") == 0
    host.consumed(STDOUT, 400)  # less than half a window: not worth a frame
    assert exchange(host, guest) == ([], [])
    host.consumed(STDOUT, 200)
    _, woken = exchange(host, guest)
    assert woken == [Writable(STDOUT)]
    assert guest.writable(STDOUT) == 600


def test_a_stalled_stream_stalls_no_other_and_no_control():
    """Stdout without credit, the link full of it: stderr and control get through."""
    host, guest = meet(max_payload=64, window=640)
    guest.send(STDOUT, bytes(640))
    exchange(host, guest)
    assert guest.writable(STDOUT) == 0
    guest.send(STDERR, b"still here")
    guest.control({"type": "started", "pid": 1})
    host.control({"type": "resize", "rows": 1, "cols": 1})
    events, guest_events = exchange(host, guest)
    assert events == [Control({"type": "started", "pid": 1}), Data(STDERR, b"still here")]
    assert guest_events == [Control({"type": "resize", "rows": 1, "cols": 1})]


def test_control_leaves_before_data_that_was_there_first():
    host, guest = meet()
    guest.send(STDOUT, bytes(100_000))
    guest.control({"type": "started"})
    first = frames_of(host, guest.data_to_send(0.0, 1 << 20))[0]
    assert first.payload == b'{"type":"started"}'


def test_control_passes_a_window_full_of_unacknowledged_data():
    host, guest = meet(max_payload=64, window=100_000)
    guest.send(STDOUT, bytes(100_000))
    assert len(frames_of(host, guest.data_to_send(0.0, 1 << 20))) == DATA_FRAMES
    guest.control({"type": "started"})
    assert frames_of(host, guest.data_to_send(0.0))[0].payload == b'{"type":"started"}'


def test_long_control_messages_cross_small_frames():
    host, guest = meet(max_payload=64)
    message = {"type": "failed", "message": "x" * 5000}
    guest.control(message)
    assert exchange(host, guest)[0] == [Control(message)]
    with pytest.raises(ValueError, match="control message"):
        guest.control({"text": "x" * CONTROL_LIMIT})


def test_the_two_outputs_take_turns():
    host, guest = meet(max_payload=64, window=1024)
    guest.send(STDOUT, bytes(512))
    guest.send(STDERR, bytes(512))
    streams = [frame.stream for frame in frames_of(host, guest.data_to_send(0.0))]
    assert streams == [STDOUT, STDERR] * 8


def test_misuse_by_our_own_side_is_a_value_error():
    host, guest = meet()
    guest.finish(STDOUT)
    guest.finish(STDOUT)
    for wrong in (
        lambda: guest.send(STDOUT, b"late"),
        lambda: guest.send(STDIN, b"not mine"),
        lambda: host.writable(STDOUT),
        lambda: host.consumed(STDOUT, 1),
        lambda: guest.consumed(STDERR, 0),
    ):
        with pytest.raises(ValueError, match="stream"):
            wrong()


def test_control_messages_that_nobody_takes_are_bounded():
    host, guest = meet(max_payload=64)
    message = {"text": "x" * 16000}
    size = len('{"text":""}') + 16000
    for _ in range(CONTROL_QUEUE // size):
        guest.control(message)
    with pytest.raises(ControlFullError):
        guest.control(message)
    events, _ = exchange(host, guest)
    assert events == [Control(message)] * (CONTROL_QUEUE // size)
    guest.control(message)
