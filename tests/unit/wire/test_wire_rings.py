"""Output that nobody takes: rings, gaps, and the bytes that all streams share."""

from __future__ import annotations

import pytest

from agent.wire import (
    MAX_PROCESSES,
    STDERR,
    STDIN,
    STDOUT,
    Console,
    Control,
    Data,
    Finished,
    Gap,
    ProtocolError,
    Role,
    Writable,
    stream_of,
)
from agent.wire.c_frame import GAP, FrameType
from tests.unit.wire.meeting import exchange, forge, make, meet

SIZES = {"max_payload": 64, "window": 512}


def ring_guest(**options):
    guest = make(Role.GUEST, **{**SIZES, "buffer_bytes": 1000, **options})
    guest.keep_newest(STDOUT)
    return guest


def total(events, stream):
    """Return the bytes, the missing ones as zeros; check that each stands where it says."""
    whole = bytearray()
    for event in events:
        if isinstance(event, Data) and event.stream == stream:
            assert event.offset == len(whole)
            whole += event.data
        elif isinstance(event, Gap) and event.stream == stream:
            assert event.offset == len(whole)
            whole += bytes(event.count)
    return bytes(whole)


def read_all(host, guest, now=0.0):
    """Exchange and consume until nothing comes any more; return the host's events."""
    found = []
    while True:
        events, _ = exchange(host, guest, now)
        if not events:
            return found
        found += events
        for event in events:
            if isinstance(event, Data):
                host.consumed(event.stream, len(event.data))


def test_before_the_first_hello_the_oldest_bytes_give_way():
    guest = ring_guest()
    assert guest.away
    text = b"".join(b"%07d\n" % n for n in range(1000))
    for start in range(0, len(text), 500):
        assert guest.send(STDOUT, text[start : start + 500]) == 500
    host = make(Role.HOST, **SIZES)
    events = read_all(host, guest)
    assert Gap(STDOUT, 0, 7000) in events
    assert total(events, STDOUT) == bytes(7000) + text[7000:]
    assert not guest.away
    assert (guest.counters.gaps, guest.counters.gap_bytes) == (1, 7000)
    assert (host.counters.gaps, host.counters.gap_bytes) == (1, 7000)


def test_nothing_is_dropped_that_the_ring_can_hold():
    guest = ring_guest()
    guest.send(STDOUT, bytes(range(250)) * 4)
    events = read_all(make(Role.HOST, **SIZES), guest)
    assert total(events, STDOUT) == bytes(range(250)) * 4
    assert guest.counters.gaps == 0


def test_while_the_host_is_there_a_ring_stops_its_writer():
    _, guest = meet(**SIZES)
    guest.keep_newest(STDOUT)
    assert guest.send(STDOUT, bytes(5000)) == 512
    assert guest.send(STDOUT, b"x") == 0


def test_a_host_that_is_silent_for_long_counts_as_away():
    host, guest = meet(**SIZES, away_seconds=5.0, buffer_bytes=1000)
    guest.keep_newest(STDOUT)
    assert guest.send(STDOUT, b"a" * 512) == 512
    assert guest.data_to_send(100.0)  # into the void
    assert guest.tick(104.9) == []
    assert guest.send(STDOUT, b"b") == 0
    assert guest.tick(105.0) == [Writable(STDOUT)]
    assert guest.away
    for _ in range(10):
        assert guest.send(STDOUT, b"b" * 300) == 300
    host.transport_lost()
    events = read_all(host, guest, 200.0)
    # What was in flight is no ring's any more: it arrives.
    assert total(events, STDOUT) == b"a" * 512 + bytes(3000 - 488) + b"b" * 488
    assert not guest.away


def test_a_cut_shorter_than_that_drops_nothing():
    host, guest = meet(**SIZES, away_seconds=5.0)
    guest.keep_newest(STDOUT)
    guest.transport_lost()
    host.transport_lost()
    assert guest.deadline() is not None
    assert guest.send(STDOUT, b"c" * 600) == 512
    guest.tick(4.9)
    assert guest.send(STDOUT, b"d") == 0
    assert total(read_all(host, guest, 4.9), STDOUT) == b"c" * 512


def test_without_traffic_nobody_is_away():
    _, guest = meet(**SIZES, away_seconds=5.0)
    guest.tick(1e6)
    assert not guest.away
    assert guest.deadline() is None


def test_all_streams_share_what_is_kept():
    guest = ring_guest()
    guest.keep_newest(STDERR)
    guest.send(STDERR, b"e" * 300)
    guest.send(STDOUT, b"o" * 2000)
    events = read_all(make(Role.HOST, **SIZES), guest)
    assert total(events, STDERR) == b"e" * 300  # the fullest ring gives way
    assert total(events, STDOUT) == bytes(1300) + b"o" * 700


def test_every_stream_has_a_share_of_what_is_kept():
    host, guest = meet(**SIZES, buffer_bytes=1000)
    for process in (1, 2, 3):
        host.open(process)
    exchange(host, guest)
    taken = [host.send(stream_of(process, STDIN), bytes(512)) for process in range(4)]
    assert taken == [512, 488, 1, 1]  # however few bytes
    _, events = exchange(host, guest)
    assert [e.stream for e in events if isinstance(e, Data)][:4] == [1, 5, 9, 13]
    assert host.tick(0.0) == []


def test_all_streams_together_keep_half_as_much_again_at_most():
    host, guest = meet(max_payload=1024, window=8192, buffer_bytes=64 << 10)
    for process in range(1, MAX_PROCESSES + 1):
        host.open(process)
    exchange(host, guest)
    streams = [stream_of(process, which) for process in range(257) for which in (STDOUT, STDERR)]
    for _ in range(3):
        taken = [guest.send(stream, bytes(20_000)) for stream in streams]
        guest.data_to_send(0.0)  # and lost: nothing is acknowledged
    assert sum(taken) == 0
    kept = guest._streams.pool.used
    assert kept == sum(one._waiting.size + one._sent for one in guest._streams._outgoing.values())
    assert 64 << 10 < kept <= 96 << 10
    # None waits for what others keep.
    assert all(one._waiting.size + one._sent for one in guest._streams._outgoing.values())


def test_a_gap_needs_no_credit_and_costs_none():
    guest = ring_guest(buffer_bytes=600)
    guest.send(STDOUT, b"x" * 600)
    host = make(Role.HOST, **SIZES)
    events, _ = exchange(host, guest)  # 512 of 600: the credit is used up
    host.transport_lost()
    guest.transport_lost()
    guest.tick(1e3)
    guest.send(STDOUT, b"y" * 600)
    more, _ = exchange(host, guest, 2e3)
    assert more[-1].offset == 512
    assert isinstance(more[-1], Gap)
    host.consumed(STDOUT, 512)
    rest = read_all(host, guest, 2e3)
    assert total([*events, *more, *rest], STDOUT).endswith(b"y" * 512)
    assert len(total([*events, *more, *rest], STDOUT)) == 1200


def test_the_end_comes_after_the_newest_bytes():
    guest = ring_guest()
    guest.send(STDOUT, b"x" * 5000)
    guest.finish(STDOUT)
    with pytest.raises(ValueError, match="finished"):
        guest.send(STDOUT, b"late")
    events = read_all(make(Role.HOST, **SIZES), guest)
    assert len(total(events, STDOUT)) == 5000


def test_a_session_under_another_key_goes_on_with_the_streams():
    """What frames carried is a gap, what waited comes; control, credit, processes begin anew."""
    old_host, guest = meet(**SIZES, buffer_bytes=1000)
    guest.keep_newest(STDOUT)
    read_all(old_host, guest)
    text = b"".join(b"%07d\n" % n for n in range(100))
    guest.send(STDOUT, text[:200])
    events = read_all(old_host, guest)
    assert total(events, STDOUT) == text[:200]
    guest.send(STDOUT, text[200:300])
    carried = guest.data_to_send(0.0)  # and lost
    guest.tick(100.0)
    assert guest.away
    guest.send(STDOUT, text[300:])
    guest.send(STDERR, b"")
    guest.finish(STDERR)
    guest.control({"type": "exited"})
    heir = guest.succeed(bytes(32), nonce=b"h" * 16, now=100.0)
    host = make(Role.HOST, key=bytes(32), **SIZES)
    events = read_all(host, heir, 100.0)
    assert Gap(STDOUT, 0, 300) in events
    assert total(events, STDOUT) == bytes(300) + text[300:]
    assert [event.stream for event in events if isinstance(event, Finished)] == [STDERR]
    assert not [event for event in events if isinstance(event, Control)]
    assert len(carried) > 100
    assert heir.send(STDOUT, b"more") == 4
    (more,) = read_all(host, heir, 100.0)
    assert (more.data, more.offset) == (b"more", len(text))


def test_nothing_of_an_old_key_is_accepted():
    old_host, guest = meet(**SIZES)
    read_all(old_host, guest)
    old_host.send(STDIN, b"old")
    late = old_host.data_to_send(0.0)
    heir = guest.succeed(bytes(32), nonce=b"h" * 16, now=0.0)
    old_host.transport_lost()
    hello = old_host.data_to_send(0.0)
    for line in (late, hello, late):
        assert [e for e in heir.receive(line, 0.0) if not isinstance(e, Console)] == []
        assert heir.data_to_send(0.0) == b""
    assert heir.counters.forged == 3
    assert not heir.established
    exchange(host := make(Role.HOST, key=bytes(32), **SIZES), heir)
    assert host.established


def test_only_a_guest_is_given_another_key():
    with pytest.raises(ValueError, match="of its own"):
        make(Role.HOST).succeed(bytes(32), nonce=b"h" * 16, now=0.0)


@pytest.mark.parametrize(
    "payload",
    [GAP.pack(1, 5), GAP.pack(0, 0), GAP.pack(0, 2**63), GAP.pack(0, 1)[:-1], b""],
    ids=["elsewhere", "nothing", "too much", "short", "empty"],
)
def test_a_gap_that_cannot_be(payload):
    host, guest = meet(**SIZES)
    frame = {"type": FrameType.GAP, "stream": STDOUT, "transmission": 1, "payload": payload}
    with pytest.raises(ProtocolError, match="gap"):
        host.receive(forge(guest, **frame), 0.0)
