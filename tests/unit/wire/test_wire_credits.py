"""What an end that counts all it has unread gives as credit, and to whom."""

from __future__ import annotations

import pytest

from agent.wire import STDIN, Data, Role, stream_of
from tests.unit.wire.meeting import exchange, make

KIB = 1024
WINDOW = 128 * KIB
LIMIT = 256 * KIB
FIRST = 16 * KIB


def meet(processes, *, unread_bytes=LIMIT):
    sizes = {"max_payload": 8 * KIB, "window": WINDOW, "buffer_bytes": 64 << 20}
    host = make(Role.HOST, **sizes)
    guest = make(Role.GUEST, **sizes, unread_bytes=unread_bytes)
    exchange(host, guest)
    for process in range(1, processes):
        host.open(process)
    exchange(host, guest)
    return host, guest, [stream_of(process, STDIN) for process in range(processes)]


def fill(host, guest, streams, *, read=()):
    """Send until nothing goes any more; return how many bytes came, by stream."""
    came = dict.fromkeys(streams, 0)
    while True:
        exchange(host, guest)  # the credit
        sent = [host.send(stream, bytes(1 << 20)) for stream in streams]
        _, events = exchange(host, guest)
        for event in events:
            if isinstance(event, Data):
                came[event.stream] += len(event.data)
                if event.stream in read and came[event.stream] < 4 << 20:
                    guest.consumed(event.stream, len(event.data))
        if not any(sent):
            return came


def test_a_stream_that_nobody_reads_brings_little():
    host, guest, streams = meet(1)
    assert fill(host, guest, streams) == {streams[0]: FIRST}


def test_a_stream_that_is_read_comes_to_a_window():
    host, guest, streams = meet(1)
    came = fill(host, guest, streams, read=streams)
    assert (4 << 20) + WINDOW // 2 < came[streams[0]] <= (4 << 20) + WINDOW


def test_without_a_limit_each_stream_has_a_window_at_once():
    host, guest, streams = meet(3, unread_bytes=None)
    assert fill(host, guest, streams) == dict.fromkeys(streams, WINDOW)


def test_all_together_have_no_more_than_the_limit_beside_the_first():
    host, guest, streams = meet(20)
    came = fill(host, guest, streams, read=streams)
    held = sum(count - min(count, 4 << 20) for count in came.values())
    assert held <= LIMIT + len(streams) * FIRST
    assert all(count >= 4 << 20 for count in came.values())  # none waits for the others


def test_what_others_leave_unread_stops_nobody():
    host, guest, streams = meet(100)
    last = streams[-1]
    came = fill(host, guest, streams, read=[last])
    assert came[last] >= 4 << 20
    assert {count for stream, count in came.items() if stream != last} == {FIRST}


@pytest.mark.parametrize("consumed_first", [True, False])
def test_an_end_leaves_its_credit_to_others(consumed_first):
    host, guest, streams = meet(4)
    fill(host, guest, streams, read=streams)
    shared = guest._streams._credits
    assert shared.given > 3 * FIRST
    for stream in streams[1:]:
        if consumed_first:
            incoming = guest._streams._incoming[stream]
            guest.consumed(stream, incoming._carried - incoming._consumed)
        host.finish(stream)
    exchange(host, guest)
    if not consumed_first:
        for stream in streams[1:]:
            incoming = guest._streams._incoming[stream]
            guest.consumed(stream, incoming._carried - incoming._consumed)
    exchange(host, guest)
    assert shared.given == guest._streams._incoming[STDIN]._holds


def test_a_process_that_is_gone_holds_nothing():
    host, guest, _ = meet(2)
    before = guest._streams._credits.given
    host.open(2)
    exchange(host, guest)
    assert guest._streams._credits.given == before + FIRST
    for process in (2,):
        host.finish(stream_of(process, STDIN))
        guest.finish(stream_of(process, 2))
        guest.finish(stream_of(process, 3))
    exchange(host, guest)
    assert not guest._streams._knows(2)
    assert guest._streams._credits.given == before
