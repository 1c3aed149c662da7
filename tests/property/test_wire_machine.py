"""Any order of sending, losing, cutting, killing and waiting: what arrives is what was sent.

Hypothesis chooses the steps; nothing here is random by itself. After every step what has arrived is
a beginning of what was sent, gaps in their places; after the last one, over a line without faults,
it is all of it.
"""

from __future__ import annotations

import json
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.wire import (
    CONTROL,
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Endpoint,
    Finished,
    Gap,
    Opened,
    Position,
    Role,
    SessionState,
    Unopened,
    stream_of,
)

KEY = bytes(range(32))
ENDS = (Role.HOST, Role.GUEST)
SIZES = {"max_payload": 128, "window": 512}
sizes = st.sampled_from([1, 60, 200, 700])


class Machine(RuleBasedStateMachine):
    """A host, a guest, and the bytes between them."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.processes = 0
        self.journal = []
        self.host = Endpoint(Role.HOST, KEY, nonce=b"h" * 16, now=0.0, **SIZES)
        self.guest = Endpoint(
            Role.GUEST,
            KEY,
            nonce=b"g" * 16,
            now=0.0,
            **SIZES,
            buffer_bytes=600,
            unread_bytes=600,
            away_seconds=3.0,
        )
        self.guest.keep_newest(STDOUT)
        self.line = {Role.HOST: b"", Role.GUEST: b""}  # by sender
        self.written = defaultdict(bytearray)  # by stream
        self.ended = set()
        self.arrived = defaultdict(list)  # by stream: bytes, or the length of a gap
        self.unread = defaultdict(int)  # by stream
        self.finished = set()
        self.said = {Role.HOST: [], Role.GUEST: []}
        self.heard = {Role.HOST: [], Role.GUEST: []}
        self.placed = True
        self.guest_knows = {0}
        self.host_knows = {0}
        self.keep()

    def keep(self):
        """Write down what the host has."""
        record = self.host.journal()
        if record is not None:
            self.journal.append(json.dumps(record))
        self.kept = (
            {
                stream: list(pieces)
                for stream, pieces in self.arrived.items()
                if stream % 4 != STDIN
            },
            {stream for stream in self.finished if stream % 4 != STDIN},
            list(self.heard[Role.HOST]),
            set(self.host_knows),
        )

    def end(self, role):
        return self.host if role is Role.HOST else self.guest

    def take(self, role, events):
        for event in events:
            if isinstance(event, Data):
                at = sum(len(p) if isinstance(p, bytes) else p for p in self.arrived[event.stream])
                assert event.offset == at
                self.arrived[event.stream].append(event.data)
                self.unread[event.stream] += len(event.data)
                assert self.unread[event.stream] <= SIZES["window"]
            elif isinstance(event, Gap):
                self.arrived[event.stream].append(event.count)
            elif isinstance(event, Finished):
                self.finished.add(event.stream)
            elif isinstance(event, Control):
                self.heard[role].append(event.message)
            elif isinstance(event, Opened):
                self.guest_knows.add(event.process)
            elif isinstance(event, Closed):
                (self.host_knows if role is Role.HOST else self.guest_knows).remove(event.process)
            elif isinstance(event, Unopened):
                self.host_knows.remove(event.process)
                self.written.pop(stream_of(event.process, STDIN), None)
                self.ended.discard(stream_of(event.process, STDIN))
            elif isinstance(event, Position) and event.stream == CONTROL:
                self.placed = True
                del self.said[Role.HOST][event.offset :]
            elif isinstance(event, Position):
                del self.written[event.stream][event.offset :]
                if not event.finished:
                    self.ended.discard(event.stream)

    # --- the users -------------------------------------------------------------------------------

    def streams(self, role):
        """Return the streams that an end may write now."""
        kinds = (STDIN,) if role is Role.HOST else (STDOUT, STDERR)
        knows = self.host_knows if role is Role.HOST else self.guest_knows
        return [stream_of(n, which) for n in sorted(knows) for which in kinds]

    @rule(
        role=st.sampled_from(ENDS),
        which=st.integers(0, 30),
        size=sizes,
        seed=st.integers(0, 255),
    )
    def send(self, role, which, size, seed):
        streams = [stream for stream in self.streams(role) if stream not in self.ended]
        if streams:
            stream = streams[which % len(streams)]
            data = bytes((seed + i) % 251 for i in range(size))
            taken = self.end(role).send(stream, data)
            self.written[stream] += data[:taken]

    @rule(role=st.sampled_from(ENDS), which=st.integers(0, 30))
    def finish(self, role, which):
        streams = [stream for stream in self.streams(role) if stream not in self.ended]
        if streams and self.placed:
            self.end(role).finish(streams[which % len(streams)])
            self.ended.add(streams[which % len(streams)])

    @rule(role=st.sampled_from(ENDS), size=sizes)
    def say(self, role, size):
        if self.placed or role is Role.GUEST:
            message = {"n": len(self.said[role]), "text": "x" * size}
            self.end(role).control(message)
            self.said[role].append(message)

    @precondition(lambda self: self.processes < 4 and self.placed)
    @rule()
    def open(self):
        self.processes += 1
        self.host.open(self.processes)
        self.host_knows.add(self.processes)

    @rule(which=st.integers(0, 30), part=st.sampled_from([0.3, 1.0]))
    def read(self, which, part):
        streams = [stream for stream, count in sorted(self.unread.items()) if count]
        if streams:
            stream = streams[which % len(streams)]
            count = max(1, int(self.unread[stream] * part))
            self.unread[stream] -= count
            self.end(Role.GUEST if stream % 4 == STDIN else Role.HOST).consumed(stream, count)

    # --- the line --------------------------------------------------------------------------------

    @rule(role=st.sampled_from(ENDS), limit=st.sampled_from([50, 400, 5000]))
    def write(self, role, limit):
        if role is Role.HOST:
            self.keep()
        self.line[role] += self.end(role).data_to_send(self.now, limit)

    def deliver(self, role, count):
        data, self.line[role] = self.line[role][:count], self.line[role][count:]
        peer = Role.GUEST if role is Role.HOST else Role.HOST
        self.take(peer, self.end(peer).receive(data, self.now))

    @rule(role=st.sampled_from(ENDS), count=st.sampled_from([1, 100, 10_000]))
    def pass_on(self, role, count):
        self.deliver(role, count)

    @rule(
        role=st.sampled_from(ENDS),
        kind=st.sampled_from(["drop", "flip", "double", "insert"]),
        at=st.integers(0, 3000),
        length=st.sampled_from([1, 40, 400]),
    )
    def fault(self, role, kind, at, length):
        line = self.line[role]
        if not line:
            return
        at %= len(line)
        victim = line[at : at + length]
        replacement = {
            "drop": b"",
            "flip": bytes(byte ^ 0x55 for byte in victim),
            "double": victim * 2,
            "insert": b"\xf5TLP [ 0.1] console\r\n" + victim,
        }[kind]
        self.line[role] = line[:at] + replacement + line[at + length :]

    @rule(whom=st.sampled_from(["host", "guest", "both"]), through=st.booleans())
    def cut(self, whom, through):
        if whom == "guest":  # a false alarm
            self.guest.transport_lost()
            return
        self.line = {role: line[: len(line) // 2 * through] for role, line in self.line.items()}
        self.host.transport_lost()
        if whom == "both":
            self.guest.transport_lost()

    @rule(read_first=st.booleans(), cut=st.booleans())
    def kill(self, read_first, cut):
        if read_first:
            self.deliver(Role.GUEST, 10_000)
        arrived, finished, heard, knows = self.kept
        for stream in [stream for stream in self.arrived if stream % 4 != STDIN]:
            self.arrived[stream] = list(arrived.get(stream, []))
            self.unread[stream] = 0
        self.finished = {s for s in self.finished if s % 4 == STDIN} | finished
        self.heard[Role.HOST] = list(heard)
        for process in self.host_knows - knows:
            self.written.pop(stream_of(process, STDIN), None)
            self.ended.discard(stream_of(process, STDIN))
        self.host_knows = set(knows)
        state = SessionState()
        for line in self.journal:
            state.apply(json.loads(line))
        nonce = b"host process%4d" % state.incarnation
        self.host = Endpoint(Role.HOST, KEY, nonce=nonce, now=self.now, state=state, **SIZES)
        self.placed = False
        self.keep()
        self.line = {Role.HOST: self.line[Role.HOST][:50], Role.GUEST: b""}
        if cut:
            self.guest.transport_lost()

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0]))
    def wait(self, seconds):
        self.now += seconds
        for role in ENDS:
            self.take(role, self.end(role).tick(self.now))

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def what_arrived_was_sent(self):
        for stream, pieces in self.arrived.items():
            at = 0
            for piece in pieces:
                if isinstance(piece, bytes):
                    assert self.written[stream][at : at + len(piece)] == piece
                at += len(piece) if isinstance(piece, bytes) else piece
            assert at <= len(self.written[stream])
        if self.placed:
            for role, peer in ((Role.HOST, Role.GUEST), (Role.GUEST, Role.HOST)):
                assert self.heard[role] == self.said[peer][: len(self.heard[role])]

    @invariant()
    def nothing_grows(self):
        for end in (self.host, self.guest):
            assert end._receiver.held_bytes <= SIZES["window"] + SIZES["max_payload"]
            assert end._streams.pool.used <= 600 + 257 * 2 + 512
            assert len(end._parser._buffer) < 128 + 8 + 48

    def teardown(self):
        for _ in range(400):
            self.now += 0.25
            for role in ENDS:
                self.write(role, 100_000)
                self.deliver(role, 100_000)
                self.take(role, self.end(role).tick(self.now))
            for stream, count in list(self.unread.items()):
                knows = self.guest_knows if stream % 4 == STDIN else self.host_knows
                if count and stream // 4 in knows:
                    self.unread[stream] = 0
                    self.end(Role.GUEST if stream % 4 == STDIN else Role.HOST).consumed(
                        stream, count
                    )
            if self.placed and not self.host.unacknowledged() and not self.guest.unacknowledged():
                break
        assert self.placed
        self.what_arrived_was_sent()
        for stream, data in self.written.items():
            pieces = self.arrived[stream]
            assert sum(len(p) if isinstance(p, bytes) else p for p in pieces) == len(data)
        assert self.ended == self.finished
        assert self.heard[Role.GUEST] == self.said[Role.HOST]
        assert self.heard[Role.HOST] == self.said[Role.GUEST]
        assert self.host_knows == self.guest_knows


Machine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, derandomize=True
)
TestMachine = Machine.TestCase
