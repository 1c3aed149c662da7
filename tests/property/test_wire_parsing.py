"""The parser and the Endpoint on any bytes, split anywhere: the same events, or ProtocolError."""

from __future__ import annotations

import itertools
import random
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Console,
    Control,
    Data,
    Endpoint,
    Established,
    Finished,
    Gap,
    ProtocolError,
    Role,
    Writable,
    stream_of,
)
from agent.wire.c_frame import (
    FRAME_OVERHEAD,
    HEADER,
    HEADER_BODY,
    HEADER_CRC,
    HEADER_FIELDS,
    MAGIC,
    FrameType,
)
from agent.wire.events import Counters
from agent.wire.frames import Frame, FrameParser, Sealer
from tests.unit.wire.meeting import forge

KEY = bytes(range(32))
SEALER = Sealer(KEY)
OTHER = Sealer(bytes(32))
HEADER_NAMES = [name for name, _ in HEADER_FIELDS]

frames = st.builds(
    Frame,
    type=st.sampled_from([FrameType.DATA, FrameType.CREDIT]),
    stream=st.integers(0, 65535),
    flags=st.integers(0, 255),
    number=st.integers(0, 2**64 - 1),
    transmission=st.integers(0, 2**64 - 1),
    # Only who has the key can make a payload with a good frame in it.
    payload=st.one_of(
        st.binary(max_size=256).filter(lambda data: MAGIC not in data), st.just(MAGIC * 3)
    ),
) | st.builds(
    Frame,
    type=st.sampled_from([FrameType.PROBE, FrameType.ACK, FrameType.READY]),
    stream=st.just(0),
    flags=st.just(0),
    number=st.integers(0, 40),
    transmission=st.integers(0, 40),
    payload=st.binary(max_size=128).filter(lambda data: MAGIC not in data),
)


def header(frame: Frame, length: int) -> bytes:
    """Return a header with a good crc that claims `length` bytes."""
    body = HEADER_BODY.pack(MAGIC, frame.type, frame.flags, frame.stream, length, 0, 0)
    return body + HEADER_CRC.pack(zlib.crc32(body))


noise = st.one_of(
    st.binary(min_size=1, max_size=100),
    st.sampled_from([MAGIC, MAGIC[:3], MAGIC[:1], b"[   0.5] text\r\n"]),
    frames.map(OTHER.seal),
    st.builds(header, frames, st.integers(0, 2**32 - 1)),
)
splits = st.lists(st.integers(0, 4096), max_size=12)


def parse(pieces) -> tuple[list[Frame], bytes, Counters]:
    """Return the frames and all console bytes."""
    counters = Counters()
    parser = FrameParser(lambda _type: SEALER, 256, counters)
    found, console = [], b""
    for piece in pieces:
        for item in parser.feed(piece):
            if isinstance(item, Frame):
                found.append(item)
            else:
                console += item
    return found, console, counters


def cut(data: bytes, positions) -> list[bytes]:
    borders = [0, *sorted(min(position, len(data)) for position in positions), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


@given(st.lists(frames, max_size=6), splits)
def test_frames_come_back_as_they_went(given_frames, positions):
    line = b"".join(map(SEALER.seal, given_frames))
    found, console, counters = parse(cut(line, positions))
    assert found == given_frames
    assert console == b""
    assert counters.frames_received == len(given_frames)


@given(st.lists(st.one_of(frames.map(SEALER.seal), noise), max_size=8), splits)
def test_any_split_gives_the_same(pieces, positions):
    line = b"".join(pieces)
    whole = parse([line])
    assert parse(cut(line, positions)) == whole
    assert parse([line[i : i + 1] for i in range(len(line))]) == whole


@given(st.lists(st.one_of(frames.map(SEALER.seal), noise), max_size=8))
def test_every_byte_is_accounted_for(pieces):
    """Console text, dropped, part of a good frame, or still waiting: and never held for long."""
    line = b"".join(pieces)
    found, console, counters = parse([line])
    good = sum(len(SEALER.seal(frame)) for frame in found)
    assert len(console) == counters.console_bytes
    held = len(line) - good - len(console) - counters.discarded_bytes
    assert 0 <= held < 256 + 48


@given(noise, st.lists(frames, min_size=1, max_size=4))
def test_after_any_garbage_short_frames_get_through(garbage, wanted):
    """Whatever the garbage claims, a later probe releases what waits."""
    line = garbage + b"".join(map(SEALER.seal, wanted)) + bytes(400)
    found, _, _ = parse([line])
    assert found[-len(wanted) :] == wanted


def test_a_frame_that_lost_its_end_is_released_by_the_next_probe():
    broken = SEALER.seal(Frame(FrameType.DATA, payload=bytes(256)))[:-100]
    probe = Frame(FrameType.PROBE, transmission=9)
    found, console, counters = parse([broken, SEALER.seal(probe)])
    assert found == [probe]
    assert console == b""
    assert counters.discarded_bytes == len(broken)


def test_parsing_does_not_depend_on_the_payload():
    """Escaping schemes cost 18 times as much on chosen bytes; here no byte of a payload is read."""
    # Counted, not timed: a payload full of magics must not have the parser look at any of them.
    calls = []

    def key_for(frame_type):
        calls.append(frame_type)
        return SEALER

    parser = FrameParser(key_for, 65536, Counters())
    hostile = header(Frame(FrameType.PROBE), 0) * 2000
    items = list(parser.feed(SEALER.seal(Frame(FrameType.DATA, payload=hostile))))
    assert [item.payload for item in items] == [hostile]
    assert len(calls) == 1


# --- the Endpoint --------------------------------------------------------------------------------


def pair(**sizes) -> tuple[Endpoint, Endpoint]:
    """Return two Endpoints that have shaken hands."""
    host = Endpoint(Role.HOST, KEY, nonce=b"h" * 16, now=0.0, **sizes)
    guest = Endpoint(Role.GUEST, KEY, nonce=b"g" * 16, now=0.0, **sizes)
    for _ in range(3):
        guest.receive(host.data_to_send(0.0), 0.0)
        host.receive(guest.data_to_send(0.0), 0.0)
    return host, guest


SIZES = {"max_payload": 512, "window": 4096}
TEXT = random.Random(1).randbytes(900)


def recorded() -> bytes:
    """Return what a guest writes in a short session, handshake included, as one recording.

    With a gap in STDERR, and a second process with compressed output. Without acknowledgements:
    they would be wrong for a host that has not sent what they acknowledge yet.
    """
    host = Endpoint(Role.HOST, KEY, nonce=b"h" * 16, now=0.0, **SIZES)
    guest = Endpoint(Role.GUEST, KEY, nonce=b"g" * 16, now=0.0, buffer_bytes=2048, **SIZES)
    host.open(1)
    guest.keep_newest(STDERR)
    guest.send(STDERR, bytes(5000))
    waiting = {STDOUT: TEXT, stream_of(1, STDOUT): b"the output of another process\n" * 60}
    line = b""
    for turn in range(90):
        guest.receive(host.data_to_send(0.0), 0.0)
        if turn == 5:
            guest.control({"type": "started", "pid": 1})
            guest.finish(STDERR)
            guest._sender.rate.asked(0.0, more=True)
            guest._sender.rate.acknowledged(65536, 1.0)  # a slow line, as if it had been measured
        for stream in [stream for stream in waiting if turn > 5]:
            waiting[stream] = waiting[stream][guest.send(stream, waiting[stream]) :]
            if not waiting[stream]:
                guest.finish(stream)
                del waiting[stream]
        data = guest.data_to_send(0.0, 100)  # frames come in pieces
        line += data
        for event in host.receive(data, 0.0):
            if isinstance(event, Data):
                host.consumed(event.stream, len(event.data))
    assert not guest.unacknowledged()
    assert guest.counters.compressed
    sealed = [frame for frame in split_frames(line) if frame[len(MAGIC)] != FrameType.ACK]
    return b"".join([*sealed[:-1], b"console\n", sealed[-1]])


def split_frames(line: bytes) -> list[bytes]:
    """Return the frames of a line without faults, as they are on it."""
    found = []
    while line:
        length = HEADER.unpack_from(line)[HEADER_NAMES.index("length")]
        found.append(line[: length + FRAME_OVERHEAD])
        line = line[length + FRAME_OVERHEAD :]
    return found


RECORDED = recorded()


def replay(pieces) -> list[object]:
    """Return the events of a host that is fed a recording; the error last, if there is one."""
    host = Endpoint(Role.HOST, KEY, nonce=b"h" * 16, now=0.0, **SIZES)
    host.open(1)
    assert host.data_to_send(0.0)
    events: list[object] = []
    try:
        for piece in pieces:
            for event in host.receive(piece, 0.0):
                if isinstance(event, Data):
                    host.consumed(event.stream, len(event.data))
                if isinstance(event, Console) and events and isinstance(events[-1], Console):
                    events[-1] = Console(events[-1].data + event.data)
                else:
                    events.append(event)
        host.tick(0.0)
    except ProtocolError as error:
        events.append(str(error))
    return events


def test_the_recording_is_a_whole_session():
    events = replay([RECORDED])
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Established, Writable]
    assert Control({"type": "started", "pid": 1}) in events
    assert Console(b"console\n") in events
    assert Gap(STDERR, 0, 2952) in events
    assert {event.stream for event in events if isinstance(event, Finished)} == {2, 3, 6}
    sizes = {STDOUT: 900, STDERR: 2048, stream_of(1, STDOUT): 1800}
    for stream, size in sizes.items():
        found = [
            event.data for event in events if isinstance(event, Data) and event.stream == stream
        ]
        assert len(b"".join(found)) == size


@given(st.lists(st.integers(0, len(RECORDED)), max_size=30))
def test_any_split_of_a_session_gives_the_same_events(positions):
    assert replay(cut(RECORDED, positions)) == replay([RECORDED])


def test_a_session_byte_by_byte_gives_the_same_events():
    assert replay([RECORDED[i : i + 1] for i in range(len(RECORDED))]) == replay([RECORDED])


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, len(RECORDED) - 1), st.integers(0, 40), st.binary(max_size=20)),
        min_size=1,
        max_size=10,
    )
)
def test_a_damaged_session_parses_or_raises_protocol_error(edits):
    """And what arrives is still a beginning of what was sent, byte for byte."""
    line = bytearray(RECORDED)
    for position, length, replacement in edits:
        line[position : position + length] = replacement
    text = b"".join(
        event.data
        for event in replay([bytes(line)])
        if isinstance(event, Data) and event.stream == STDOUT
    )
    assert TEXT.startswith(text)


@given(st.lists(frames, max_size=8))
def test_a_guest_with_the_key_and_no_manners(hostile):
    """Its frames have good tags and any content: events or ProtocolError, in bounded memory."""
    host, guest = pair(max_payload=256, window=1024)
    keys = guest._handshake.session_keys
    line = b"".join(map(keys.ours.seal, hostile))
    try:
        events = host.receive(line, 1.0)
        host.data_to_send(1.0)
        host.tick(2.0)
    except ProtocolError:
        return
    assert sum(len(event.data) for event in events if isinstance(event, Data)) <= 2 * 1024


@given(st.binary(max_size=300))
def test_any_control_text_is_an_object_or_an_error(text):
    host, guest = pair()
    try:
        events = host.receive(forge(guest, type=FrameType.DATA, transmission=1, payload=text), 1.0)
    except ProtocolError:
        return
    assert [type(event) for event in events] == [Control]


@given(st.binary(max_size=2000), splits)
def test_bytes_without_a_key_are_console_text(data, positions):
    guest = Endpoint(Role.GUEST, KEY, nonce=b"g" * 16, now=0.0)
    events = [event for piece in cut(data, positions) for event in guest.receive(piece, 0.0)]
    assert all(isinstance(event, Console) for event in events)
    assert guest.data_to_send(0.0) == b""
    assert guest.writable(STDOUT) == 0
    assert not guest.established


def test_stdin_before_the_handshake_has_no_credit():
    host = Endpoint(Role.HOST, KEY, nonce=b"h" * 16, now=0.0)
    assert host.send(STDIN, b"x") == 0
