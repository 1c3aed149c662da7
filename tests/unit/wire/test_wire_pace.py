"""How the ends fit the line: frame sizes, pieces of frames that were too large, compression."""

from __future__ import annotations

import itertools
import random
import zlib

import pytest

from agent.wire import STDIN, STDOUT, Data, ProtocolError, Role
from agent.wire.c_frame import (
    MIN_PAYLOAD,
    PIECE,
    Flag,
    FrameType,
)
from agent.wire.pace import FrameSize, LineRate
from agent.wire.squeeze import Squeeze, inflate
from tests.unit.wire.meeting import exchange, forge, frames_of, make, meet

# --- frame sizes ---------------------------------------------------------------------------------


def test_frames_begin_small_and_grow_to_what_both_take():
    size = FrameSize(32768)
    for payload in (4096, 8192, 16384, 32768, 32768):
        assert size.payload == payload
        size.arrived(64)


def test_loss_halves_and_a_clean_while_doubles():
    size = FrameSize(1000)
    size.lost(1)
    size.arrived(15)
    size.lost(1)  # one in sixteen twice: a new verdict has begun
    assert size.payload == 1000
    size.lost(1)
    assert size.payload == 448  # a multiple of 64
    for _ in range(10):
        size.lost(5)
    assert size.payload == MIN_PAYLOAD
    size.arrived(63)
    assert size.payload == 64
    size.arrived(1)
    assert size.payload == 128
    for _ in range(10):
        size.arrived(64)
    assert size.payload == 1000


def lose_everything(host, guest, turns):
    """Let the guest send frames of which only probes arrive."""
    for turn in range(turns):
        guest.tick(float(turn))
        line = guest.data_to_send(float(turn), 1 << 20)
        probes = [frame for frame in frames_of(host, line) if frame.type == FrameType.PROBE]
        for probe in probes:
            host.receive(guest._handshake.session_keys.ours.seal(probe), float(turn))
        guest.receive(host.data_to_send(float(turn)), float(turn))


def test_a_frame_that_the_line_does_not_carry_is_resent_in_pieces():
    host, guest = meet(max_payload=4096, window=8192)
    text = bytes(range(256)) * 32
    guest.send(STDOUT, text)
    lose_everything(host, guest, 20)
    size = guest._sender.frame_size.payload
    assert size < 4096
    assert guest.counters.lost >= 2
    line = b""
    for turn in range(20, 40):  # a probe may come first
        guest.tick(float(turn))
        line += guest.data_to_send(float(turn), 1 << 20)
        guest.receive(host.data_to_send(float(turn)), float(turn))
        if guest.counters.pieces:
            break
        host.receive(line, float(turn))
        line = b""
    frames = [frame for frame in frames_of(host, line) if frame.flags & Flag.PIECE]
    assert {frame.number for frame in frames} == {1, 2}
    assert max(len(frame.payload) for frame in frames) <= size + PIECE.size
    events = host.receive(line, 50.0) + exchange(host, guest, 50.0)[0]
    assert b"".join(event.data for event in events if isinstance(event, Data)) == text


def piece(guest, offset, total, data, *, number=0, transmission=1):
    return forge(
        guest,
        type=FrameType.DATA,
        flags=Flag.PIECE,
        stream=STDOUT,
        number=number,
        transmission=transmission,
        payload=PIECE.pack(offset, total) + data,
    )


def test_pieces_come_in_any_order_and_more_than_once():
    host, guest = meet(max_payload=256, window=1024)
    text = bytes(range(200))
    order = [(128, 200), (0, 64), (128, 192), (0, 64), (64, 128)]
    events = []
    for n, (start, end) in enumerate(order):
        line = piece(guest, start, 200, text[start:end], transmission=n + 1)
        events += host.receive(line, 0.0)
    assert events == [Data(STDOUT, text)]
    assert host._receiver.held_bytes == 0


def test_a_whole_frame_takes_the_place_of_its_pieces():
    host, guest = meet(max_payload=256, window=1024)
    host.receive(piece(guest, 0, 200, bytes(64)), 0.0)
    assert host._receiver.held_bytes == 200
    whole = {"type": FrameType.DATA, "stream": STDOUT, "payload": b"w" * 200}
    assert host.receive(forge(guest, transmission=2, **whole), 0.0) == [Data(STDOUT, b"w" * 200)]
    assert host._receiver.held_bytes == 0


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 64, b"")],
        [(0, 1000, bytes(64))],
        [(1, 200, bytes(64))],
        [(0, 200, bytes(63))],
        [(192, 200, bytes(64))],
        [(0, 200, bytes(64)), (64, 199, bytes(64))],
    ],
    ids=["nothing", "too long", "between", "short", "beyond", "two frames"],
)
def test_pieces_that_do_not_fit(pieces):
    host, guest = meet(max_payload=256, window=1024)
    line = b"".join(
        piece(guest, offset, total, data, transmission=n + 1)
        for n, (offset, total, data) in enumerate(pieces)
    )
    with pytest.raises(ProtocolError, match="piece"):
        host.receive(line, 0.0)


def test_pieces_are_held_within_the_window():
    host, guest = meet(max_payload=256, window=1024)
    for n in range(1, 20):
        line = piece(guest, 0, 256, bytes(64), number=n, transmission=n)
        assert host.receive(line, 0.0) == []
    assert host._receiver.held_bytes == 1024
    assert host.receive(piece(guest, 0, 256, bytes(64), transmission=30), 0.0) == []
    assert host._receiver.held_bytes == 1024 + 256  # the one that is wanted next always has room


# --- compression ---------------------------------------------------------------------------------


def rate_of(seconds, *, more=True):
    rate = LineRate()
    rate.asked(0.0, more=True)
    rate.asked(0.0, more=more)
    rate.acknowledged(65536, seconds)
    return rate


def test_only_a_line_that_was_measured_to_be_slow_is_slow():
    assert not LineRate().slow
    assert rate_of(0.1).slow
    assert not rate_of(0.001).slow
    assert not rate_of(0.1, more=False).slow  # it waited for data
    assert rate_of(0.1).bytes_per_second == 655360


def test_a_slow_line_is_looked_at_again_now_and_then():
    rate = rate_of(0.1)
    seen = []
    for n in range(2, 66):
        rate.acknowledged(65536, n / 10)
        seen.append(rate.slow)
    assert seen.count(False) == 2


def test_a_squeezed_frame_fits_and_inflates_to_what_it_was():
    text = bytearray(b"".join(b"%05d: a line of the log\n" % n for n in range(2000)))
    squeeze, taken, sizes = Squeeze(), b"", []
    rest = bytearray(text)
    while rest:
        done = squeeze.squeeze(lambda count: rest[:count], len(rest), 1024)
        size, payload = done if done else (min(1024, len(rest)), bytes(rest[:1024]))
        assert len(payload) <= 1024
        taken += inflate(payload, 1024) if done else payload
        sizes.append(size)
        del rest[:size]
    assert taken == text
    assert max(sizes) == 4096  # four times the frame, once it was seen to fit


def test_what_does_not_shrink_is_left_alone_for_longer_and_longer():
    noise = bytearray(random.Random(1).randbytes(512))
    squeeze, tried = Squeeze(), []
    for n in range(2000):
        squeeze._skip or tried.append(n)
        assert squeeze.squeeze(lambda count: noise[:count], 512, 512) is None
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert gaps[:4] == [1, 9, 17, 33]
    assert max(gaps) == 33


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff" * 10,
        zlib.compress(bytes(1025), wbits=-15),
        zlib.compress(b"", wbits=-15),
        zlib.compress(b"x", wbits=-15) + b"more",
        zlib.compress(bytes(1000), wbits=-15)[:-1],
    ],
    ids=["empty", "not deflate", "too much", "of nothing", "followed", "cut off"],
)
def test_a_payload_that_does_not_inflate(payload):
    host, guest = meet(max_payload=256, window=4096)
    frame = {"type": FrameType.DATA, "flags": Flag.COMPRESSED, "stream": STDOUT}
    with pytest.raises(ProtocolError, match="compressed"):
        host.receive(forge(guest, transmission=1, payload=payload, **frame), 0.0)


def test_inflated_bytes_count_against_the_credit():
    host, guest = meet(max_payload=256, window=512)
    payload = zlib.compress(bytes(600), wbits=-15)
    frame = {"type": FrameType.DATA, "flags": Flag.COMPRESSED, "stream": STDOUT}
    with pytest.raises(ProtocolError, match="credit"):
        host.receive(forge(guest, transmission=1, payload=payload, **frame), 0.0)


def slow_pair(**options):
    host, guest = make(Role.HOST, **options), make(Role.GUEST)
    exchange(host, guest)
    for end in (host, guest):
        end._sender.rate = rate_of(0.1)
    return host, guest


def test_text_on_a_slow_line_is_compressed_both_ways():
    host, guest = slow_pair()
    host.send(STDIN, b"text\n" * 1000)
    guest.send(STDOUT, b"text\n" * 1000)
    guest.finish(STDOUT)
    events, guest_events = exchange(host, guest)
    assert b"".join(e.data for e in events if isinstance(e, Data)) == b"text\n" * 1000
    assert b"".join(e.data for e in guest_events if isinstance(e, Data)) == b"text\n" * 1000
    assert (host.counters.compressed, guest.counters.compressed) == (2, 2)
    assert not guest.unacknowledged()


def test_a_host_without_compression_gets_none():
    host, guest = slow_pair(features=0)
    guest.send(STDOUT, b"text\n" * 1000)
    exchange(host, guest)
    assert guest.counters.compressed == 0
