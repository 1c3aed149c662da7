"""The two users of a simulated line: what each sends, what it got, and what a relay writes down.

Owns the bookkeeping that says whether a session was exact. The host can be killed at any point and
goes on from its journal, as a relay does; the guest keeps what it wants in rings or waits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agent.wire import (
    CONTROL,
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Endpoint,
    Established,
    Event,
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


@dataclass
class Plan:
    """What a session is to carry: bytes by stream, control messages by sender."""

    streams: dict[int, bytes]
    processes: list[int]  # beside the main one, in the order in which they are opened
    controls: dict[Role, list[dict[str, object]]]
    ring: bool  # the main process's output

    @classmethod
    def draw(cls, rng: Random, *, down: int, up: int, processes: int, controls: int) -> Plan:
        """Return a plan: `down` and `up` bytes on the main process's streams, little on others."""
        streams = {STDIN: rng.randbytes(down), STDOUT: rng.randbytes(up)}
        # Half of it as text, for compression.
        streams[STDERR] = b"%x\n" % rng.getrandbits(32) * (up // 40)
        numbers = rng.sample(range(1, 16384), processes)
        for process in numbers:
            for which in (STDIN, STDOUT, STDERR):
                streams[stream_of(process, which)] = rng.randbytes(rng.choice([0, 1, 900]))
        texts = {
            role: [{"n": n, "text": "x" * rng.choice([1, 100, 700])} for n in range(controls)]
            for role in (Role.HOST, Role.GUEST)
        }
        return cls(streams, numbers, texts, ring=False)


@dataclass
class End:
    """One Endpoint and its user."""

    plan: Plan
    rng: Random
    endpoint: Endpoint
    sent: dict[int, int] = field(default_factory=dict)  # bytes accepted, of streams not yet ended
    received: dict[int, bytearray] = field(default_factory=dict)  # zeros where bytes are missing
    gaps: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)  # processes
    controls: list[dict[str, object]] = field(default_factory=list)
    next_control: int = 0
    epochs: int = 0

    def feed(self) -> None:
        """Give the endpoint as much as it takes; end streams that are complete."""
        for stream, offset in list(self.sent.items()):
            data = self.plan.streams[stream]
            # A writer that rings let run does not write everything at once.
            chunk = self.rng.choice([0, 100, 3000]) if self.plan.ring else 65536
            self.sent[stream] += self.endpoint.send(stream, data[offset : offset + chunk])
            if self.sent[stream] == len(data):
                self.endpoint.finish(stream)
                del self.sent[stream]

    def say(self) -> None:
        """Send a control message now and then."""
        mine = self.plan.controls[self.endpoint.role]
        if self.next_control < len(mine) and self.rng.random() < 0.05:
            self.endpoint.control(mine[self.next_control])
            self.next_control += 1

    def take(self, events: list[Event]) -> None:
        """Note what arrived; a reader that is always ready."""
        for event in events:
            self.take_one(event)

    def take_one(self, event: Event) -> None:
        """Note one event, and check what can be checked at once."""
        if isinstance(event, Data):
            received = self.received.setdefault(event.stream, bytearray())
            assert event.stream not in self.finished
            assert event.offset == len(received)
            received.extend(event.data)
            self.endpoint.consumed(event.stream, len(event.data))
        elif isinstance(event, Gap):
            received = self.received.setdefault(event.stream, bytearray())
            assert event.offset == len(received)
            received.extend(bytes(event.count))
            self.gaps.setdefault(event.stream, []).append((event.offset, event.count))
        elif isinstance(event, Finished):
            assert event.stream not in self.finished
            self.finished.add(event.stream)
        elif isinstance(event, Control):
            self.controls.append(event.message)
        elif isinstance(event, Established):
            self.epochs += 1
        elif isinstance(event, Closed):
            self.closed.add(event.process)

    def is_exact(self, peer: End) -> bool:
        """Whether everything that the peer's user sent has arrived, or is known to be missing."""
        for stream, data in self.plan.streams.items():
            if (stream % 4 == STDIN) != (self.endpoint.role is Role.GUEST):
                continue
            expected = bytearray(data)
            for offset, count in self.gaps.get(stream, []):
                expected[offset : offset + count] = bytes(count)
            if self.received.get(stream, b"") != expected or stream not in self.finished:
                return False
        return self.controls == self.plan.controls[peer.endpoint.role]

    @property
    def done(self) -> bool:
        """Whether this end has nothing left to do."""
        return (
            not self.sent
            and self.next_control == len(self.plan.controls[self.endpoint.role])
            and self.closed == set(self.plan.processes)
            and not self.endpoint.unacknowledged()
        )


class GuestEnd(End):
    """Starts to send when its processes are opened."""

    @classmethod
    def make(cls, plan: Plan, rng: Random, **sizes: Any) -> GuestEnd:
        """Return the guest's end at time 0."""
        endpoint = Endpoint(Role.GUEST, KEY, nonce=rng.randbytes(16), now=0.0, **sizes)
        end = cls(plan, rng, endpoint)
        for which in (STDOUT, STDERR):
            end.sent[which] = 0
            if plan.ring:
                endpoint.keep_newest(which)
        return end

    def take_one(self, event: Event) -> None:
        if isinstance(event, Opened):
            for which in (STDOUT, STDERR):
                self.sent[stream_of(event.process, which)] = 0
        super().take_one(event)


@dataclass(frozen=True)
class Kept:
    """What is as safe as the journal: how far the host was when it last wrote it."""

    received: dict[int, int]
    gaps: dict[int, int]
    finished: set[int]
    closed: set[int]
    controls: int
    opened: list[int]


@dataclass
class HostEnd(End):
    """Opens processes, and writes down what a process after this one has to know."""

    sizes: dict[str, Any] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    kept: Kept = field(default_factory=lambda: Kept({}, {}, set(), set(), 0, []))
    opened: list[int] = field(default_factory=list)
    placed: bool = True  # how many control messages the guest has is known
    restarts: int = 0

    @classmethod
    def make(cls, plan: Plan, rng: Random, **sizes: Any) -> HostEnd:
        """Return the host's end at time 0."""
        endpoint = Endpoint(Role.HOST, KEY, nonce=rng.randbytes(16), now=0.0, **sizes)
        end = cls(plan, rng, endpoint, sizes=sizes)
        end.sent[STDIN] = 0
        end.keep()
        return end

    def feed(self) -> None:
        waiting = [n for n in self.plan.processes if n not in self.opened]
        if waiting and self.placed and self.rng.random() < 0.05:
            self._open(waiting[0])
        super().feed()

    def _open(self, process: int) -> None:
        self.endpoint.open(process)
        self.opened.append(process)
        self.sent[stream_of(process, STDIN)] = 0

    def say(self) -> None:
        if self.placed:
            super().say()

    def take_one(self, event: Event) -> None:
        if isinstance(event, Position) and event.stream == CONTROL:
            self.next_control = event.offset
            self.placed = True
        elif isinstance(event, Position):
            self.sent[event.stream] = event.offset
            if event.finished:
                assert event.offset == len(self.plan.streams[event.stream])
                del self.sent[event.stream]
        elif isinstance(event, Unopened):
            self.opened.remove(event.process)
            self.sent.pop(stream_of(event.process, STDIN), None)
        elif isinstance(event, Closed):
            self.sent.pop(stream_of(event.process, STDIN), None)
        super().take_one(event)

    def keep(self) -> None:
        """Write down what has happened; to be called before anything is sent."""
        record = self.endpoint.journal()
        if record is not None:
            self.journal.append(json.dumps(record))
        self.kept = Kept(
            received={stream: len(data) for stream, data in self.received.items()},
            gaps={stream: len(gaps) for stream, gaps in self.gaps.items()},
            finished=set(self.finished),
            closed=set(self.closed),
            controls=len(self.controls),
            opened=list(self.opened),
        )

    def die(self, now: float) -> None:
        """Lose the process and all that was not kept; another one takes over."""
        kept = self.kept
        for stream in list(self.received):
            del self.received[stream][kept.received.get(stream, 0) :]
        for stream in list(self.gaps):
            del self.gaps[stream][kept.gaps.get(stream, 0) :]
        self.finished, self.closed = set(kept.finished), set(kept.closed)
        del self.controls[kept.controls :]
        self.opened = list(kept.opened)
        state = SessionState()
        for line in self.journal:
            state.apply(json.loads(line))
        nonce = self.rng.randbytes(16)
        self.endpoint = Endpoint(Role.HOST, KEY, nonce=nonce, now=now, state=state, **self.sizes)
        self.sent = {}  # until positions come
        self.placed = False
        self.restarts += 1
        self.keep()
