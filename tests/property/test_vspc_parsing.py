"""The telnet side of the concentrator on any bytes: any split is the same, nothing breaks it."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.host.vspc.c_telnet import MAX_SUBOPTION_BYTES
from agent.host.vspc.c_vspc import (
    HOLD_BYTES,
    KNOWN_SUBOPTIONS,
    MOVE_SECONDS,
    REPLIES,
    UNIDENTIFIED_BYTES,
    VMWARE_TELNET_EXT,
)
from agent.host.vspc.session import Session
from agent.host.vspc.telnet import Data, TelnetDecoder, TelnetError, escape, suboption
from tests.unit.vspc.fakes import KNOWN, OPENING, UUID, FakePort, House

IAC_HEAVY = st.lists(
    st.sampled_from([255, 255, 250, 240, 251, 252, 253, 254, 232, 0, 1, 3, 65, 13]), max_size=60
).map(bytes)
SUBOPTIONS = st.builds(
    lambda code, rest: suboption(VMWARE_TELNET_EXT, bytes([code]) + rest),
    st.sampled_from(KNOWN_SUBOPTIONS + b"\x63"),
    st.one_of(st.binary(max_size=12), st.sampled_from([b"seq", b"seqs001", UUID.encode(), b"Cu"])),
)
PIECES = st.lists(
    st.one_of(
        SUBOPTIONS,
        st.binary(max_size=40).map(escape),
        st.sampled_from([OPENING, suboption(VMWARE_TELNET_EXT, b"\0" + KNOWN)]),
        IAC_HEAVY,
    ),
    max_size=14,
)
SPLITS = st.lists(st.integers(0, 600), max_size=12)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(position, len(data)) for position in positions), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def run(pieces: list[bytes]) -> tuple[list[object], bytes]:
    """Return the events of a session, neighbouring data joined, and all that it said."""
    session = Session("192.0.2.1")
    events: list[object] = []
    try:
        for piece in pieces:
            for event in session.receive(piece):
                last = events[-1] if events else None
                if isinstance(event, Data) and isinstance(last, Data):
                    events[-1] = Data(last.data + event.data)
                else:
                    events.append(event)
    except TelnetError as error:
        events.append(str(error))
    events.append(session.claims)
    return events, bytes(session.outgoing)


@given(st.binary(max_size=300), SPLITS)
def test_what_is_escaped_comes_back(data, positions):
    decoder = TelnetDecoder()
    events = [event for piece in cut(escape(data), positions) for event in decoder.feed(piece)]
    assert all(isinstance(event, Data) for event in events)
    assert b"".join(event.data for event in events) == data


@settings(max_examples=300)
@given(PIECES, SPLITS)
def test_any_split_gives_the_same(pieces, positions):
    line = b"".join(pieces)
    whole = run([line])
    assert run(cut(line, positions)) == whole
    assert run([line[i : i + 1] for i in range(len(line))]) == whole


@given(st.binary(max_size=2000), SPLITS)
def test_any_bytes_are_events_or_an_error(data, positions):
    run(cut(data, positions))


@given(PIECES, st.integers(1, 40))
def test_a_decoder_holds_at_most_one_suboption(pieces, times):
    decoder = TelnetDecoder()
    try:
        for piece in pieces * times:
            list(decoder.feed(piece))
            assert len(decoder._unfinished) <= MAX_SUBOPTION_BYTES
    except TelnetError:
        pass


# --- the whole house: hosts with no manners at all ------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(0, 3), PIECES.map(b"".join)),
        st.tuples(st.just("introduce"), st.integers(0, 3), st.just(b"")),
        st.tuples(st.just("end"), st.integers(0, 3), st.just(b"")),
        st.tuples(st.just("stick"), st.integers(0, 3), st.just(b"")),
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 3, 5, 20, 400]), st.just(b"")),
        st.tuples(st.just("send"), st.just(0), st.binary(max_size=3000)),
        st.tuples(st.just("space"), st.sampled_from([0, 10, 1 << 30]), st.just(b"")),
    ),
    max_size=30,
)


@settings(max_examples=400)
@given(ACTIONS)
def test_whatever_hosts_do_the_house_stands(actions):
    """No exception, bounded memory, and in the end a VM can be served as ever."""
    house = House()
    ports: list[FakePort] = [house.connect(str(number)) for number in range(4)]
    for action, number, data in actions:
        port = ports[number] if number < len(ports) else None
        if action in ("feed", "introduce", "end", "stick"):
            assert port is not None
            if port.closed:
                ports[number] = port = house.connect(str(number))
            if action == "end" and not port.ended:
                house.end(port)
            elif action == "stick":
                port.stuck = not port.stuck
                port.wake()
            elif port.wants_read and action == "feed":
                house.feed(port, data)
            elif port.wants_read:
                house.say(port, 80, UUID.encode())
                if port.wants_read:
                    house.say(port, 70, b"Cu")
        elif action == "wait":
            house.scheduler.advance(number)
        elif UUID in house.users:
            if action == "send":
                house.line.send(data)
            else:
                house.user.space = number
                house.line.resume()
        for each in ports:
            assert len(each.held) <= max(HOLD_BYTES, UNIDENTIFIED_BYTES) + 10000
            assert len(each.session.outgoing) <= 4 * HOLD_BYTES + 200 * REPLIES
    for port in ports:
        port.stuck = False
        port.wake()
        if not port.closed and not port.ended:
            house.end(port)
    if UUID in house.users:
        house.user.space = 1 << 30
        house.line.resume()
    house.scheduler.advance(2 * MOVE_SECONDS)
    assert not house.scheduler.timers
    vm = house.serve("at last")
    house.scheduler.advance(10)
    house.data(vm, b"still here")
    assert house.user.received.endswith(b"still here")
    assert house.line.send(b"x") == 1
    assert vm.to_vm == b"x"


def test_hostile_bytes_cost_no_more_than_others():
    """Counted, not timed: a run of doubled IACs is one piece of data, however long."""
    decoder = TelnetDecoder()
    assert len(list(decoder.feed(b"\xff" * 65536))) == 1
    assert len(list(decoder.feed(b"\xff" * 65536 + b"\xff\xf1" + b"\xff" * 65536))) == 2
