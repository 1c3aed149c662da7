"""A simulated serial line that loses, damages and repeats bytes, and two Endpoints across it.

Owns the fault injection and the simulated clock. `run` is one session under given faults, `soak`
as many random ones as it takes to inject a number of faults; the tests run a slice of it.
Everything follows from one seed.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Control,
    Data,
    Endpoint,
    Established,
    Event,
    Finished,
    Role,
)

KEY = bytes(range(32))
STEP_SECONDS = 0.002


@dataclass(frozen=True)
class Faults:
    """Chances per byte, except `cut`, which is per step; `burst` is the longest run of bytes hit.

    `garble` puts foreign bytes (console text, and pieces of earlier frames) between writes.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    duplicate: float = 0.0
    garble: float = 0.0
    cut: float = 0.0
    burst: int = 1


@dataclass
class Line:
    """One direction: a FIFO with `delay` seconds of latency and `rate` bytes per second."""

    rng: random.Random
    faults: Faults
    delay: float = 0.004
    rate: float = 20e6
    injected: int = 0
    _flying: deque[tuple[float, bytes]] = field(default_factory=deque)
    _seen: bytes = b""

    def room(self) -> int:
        """Return how many bytes the line takes in one step."""
        queued = sum(len(data) for _, data in self._flying)
        return max(0, int(self.rate * (STEP_SECONDS + self.delay)) - queued)

    def write(self, data: bytes, now: float) -> None:
        """Send bytes; some never arrive."""
        if data:
            self._seen = data[-4096:]
            self._flying.append((now + self.delay, self._damage(data)))

    def read(self, now: float) -> bytes:
        """Return what has arrived."""
        arrived = []
        while self._flying and self._flying[0][0] <= now:
            arrived.append(self._flying.popleft()[1])
        return b"".join(arrived)

    def cut(self) -> None:
        """Lose what is under way, except a part that had got through."""
        through = b"".join(data for _, data in self._flying)
        self._flying.clear()
        keep = through[: self.rng.randrange(len(through) + 1)]
        if keep:
            self._flying.append((0.0, keep))

    def drop_all(self) -> None:
        """Lose everything that is under way."""
        self._flying.clear()

    def _damage(self, data: bytes) -> bytes:
        faults, rng = self.faults, self.rng
        chance = faults.drop + faults.corrupt + faults.duplicate
        pieces = []
        position = 0
        while chance:
            # Draw the distance to the next fault rather than one number for every byte.
            at = position + int(rng.expovariate(chance))
            if at >= len(data):
                break
            length = rng.randint(1, faults.burst)
            victim = data[at : at + length]
            pieces.append(data[position:at])
            kind = rng.uniform(0, chance)
            if kind < faults.corrupt:
                pieces.append(bytes(byte ^ rng.randint(1, 255) for byte in victim))
            elif kind < faults.corrupt + faults.duplicate:
                pieces.append(victim + victim)
            position = at + length
            self.injected += 1
        pieces.append(data[position:])
        if faults.garble and rng.random() < faults.garble:
            noise = (b"[    1.234567] console\r\n", self._seen[rng.randrange(4096) :], b"\xf5TLP")
            pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(noise))
            self.injected += 1
        return b"".join(pieces)


@dataclass
class End:
    """One Endpoint, what it has to send, and what it got."""

    endpoint: Endpoint
    outgoing: dict[int, bytes]
    offset: dict[int, int] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    received: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    controls: list[dict[str, object]] = field(default_factory=list)
    epochs: int = 0

    def feed(self) -> None:
        """Give the endpoint as much as it takes; close streams that are complete."""
        for stream, data in self.outgoing.items():
            if stream in self.closed:
                continue
            offset = self.offset.get(stream, 0)
            self.offset[stream] = offset + self.endpoint.send(stream, data[offset:])
            if self.offset[stream] == len(data):
                self.endpoint.finish(stream)
                self.closed.add(stream)

    def take(self, events: list[Event]) -> None:
        """Note what arrived; a reader that is always ready."""
        for event in events:
            if isinstance(event, Data):
                assert event.stream not in self.finished
                self.received.setdefault(event.stream, bytearray()).extend(event.data)
                self.endpoint.consumed(event.stream, len(event.data))
            elif isinstance(event, Finished):
                assert event.stream not in self.finished
                self.finished.add(event.stream)
            elif isinstance(event, Control):
                self.controls.append(event.message)
            elif isinstance(event, Established):
                self.epochs += 1


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `seconds` is simulated time; `exact` the whole promise of the link."""

    exact: bool
    seconds: float
    faults: int
    cuts: int
    host: End
    guest: End


def run(
    seed: int,
    faults: Faults,
    *,
    up_bytes: int = 20_000,
    down_bytes: int = 20_000,
    max_payload: int = 1024,
    window: int = 8192,
    controls: int = 3,
    limit_seconds: float = 600.0,
) -> Outcome:
    """Send bytes and control messages both ways over a faulty line until all has arrived.

    Cuts come at random instants, of the whole line or of what looks like one only to the guest.
    `exact` is False when the simulated time ran out or anything differs from what was sent.
    """
    rng = random.Random(seed)
    sizes = {"max_payload": max_payload, "window": window}
    host = End(
        Endpoint(Role.HOST, KEY, nonce=rng.randbytes(16), now=0.0, **sizes),
        {STDIN: rng.randbytes(down_bytes)},
    )
    guest = End(
        Endpoint(Role.GUEST, KEY, nonce=rng.randbytes(16), now=0.0, **sizes),
        {STDOUT: rng.randbytes(up_bytes), STDERR: rng.randbytes(up_bytes // 4)},
    )
    lines = {id(host): Line(rng, faults), id(guest): Line(rng, faults)}
    pairs = ((host, guest), (guest, host))
    sent: dict[int, list[dict[str, object]]] = {id(host): [], id(guest): []}
    now = 0.0
    cuts = 0
    while now < limit_seconds:
        now += STEP_SECONDS
        if rng.random() < faults.cut:
            cuts += 1
            _cut(rng, host, guest, lines)
        for end, peer in pairs:
            data = lines[id(peer)].read(now)
            split = rng.randrange(len(data) + 1)
            for piece in (data[:split], data[split:]):
                end.take(end.endpoint.receive(piece, now))
            deadline = end.endpoint.deadline()
            if deadline is not None and deadline <= now:
                end.take(end.endpoint.tick(now))
            end.feed()
            if len(sent[id(end)]) < controls and rng.random() < 0.05:
                message: dict[str, object] = {"n": len(sent[id(end)]), "text": "x" * 100}
                sent[id(end)].append(message)
                end.endpoint.control(message)
            line = lines[id(end)]
            room = line.room()
            if room:
                line.write(end.endpoint.data_to_send(now, room), now)
        if all(
            len(sent[id(end)]) == controls
            and not end.endpoint.unacknowledged()
            and end.finished == set(peer.outgoing)
            for end, peer in pairs
        ):
            break
    exact = all(
        end.controls == sent[id(peer)]
        and end.finished == set(peer.outgoing)
        and all(bytes(end.received.get(s, b"")) == data for s, data in peer.outgoing.items())
        for end, peer in pairs
    )
    injected = sum(line.injected for line in lines.values())
    return Outcome(exact, now, injected, cuts, host, guest)


def _cut(rng: random.Random, host: End, guest: End, lines: dict[int, Line]) -> None:
    """Cut the line in one of the ways that ends see it."""
    way = rng.randrange(3)
    if way == 0:  # a socket: the host sees it, and the guest's port says so as well
        for line in lines.values():
            line.drop_all()
        host.endpoint.transport_lost()
        guest.endpoint.transport_lost()
    elif way == 1:  # a serial port: only the host sees it, and half a frame may have got through
        for line in lines.values():
            line.cut()
        host.endpoint.transport_lost()
    else:  # a false alarm in the guest: nothing was lost
        guest.endpoint.transport_lost()


def soak(count: int, seed: int) -> list[str]:
    """Run random sessions until `count` faults and cuts were injected; return what failed.

    Rates and bursts are drawn so that half of the longest frames survive: the frame size does not
    adapt to the line, and one that destroys nearly every greeting between cuts delivers nothing.
    """
    rng = random.Random(seed)
    failures = []
    injected = 0
    while injected < count:
        session = rng.randrange(2**32)
        max_payload = rng.choice([64, 255, 1024, 4096, 32768])
        burst = rng.choice([1, 1, 10, 300, 2000])
        rate = rng.choice([0.01, 0.1, 0.7]) / (max(max_payload, 128) + burst)
        drop, corrupt, double = (rng.random() for _ in range(3))
        each = rate / (drop + corrupt + double)
        faults = Faults(
            drop * each,
            corrupt * each,
            double * each,
            garble=rng.choice([0.0, 0.01, 0.1]),
            cut=rng.choice([0.0, 0.001, 0.02]),
            burst=burst,
        )
        outcome = run(
            session,
            faults,
            up_bytes=rng.choice([0, 1, 60 * max_payload]),
            down_bytes=rng.choice([0, 1, 40 * max_payload]),
            max_payload=max_payload,
            window=max_payload * rng.randint(1, 40),
        )
        injected += outcome.faults + outcome.cuts
        if not outcome.exact:
            failures.append(f"session {session} with {faults}, frames of {max_payload}: not exact")
    return failures
