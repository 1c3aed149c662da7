"""Sessions over a faulty line: one under given faults, or as many random ones as a soak takes.

Owns the simulated clock and the order of things. Everything follows from one seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.property.lossy_line import STEP_SECONDS, Faults, Line
from tests.property.wire_ends import End, GuestEnd, HostEnd, Plan


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `seconds` is simulated time; `exact` the whole promise of the link."""

    exact: bool
    seconds: float
    faults: int
    cuts: int
    host: HostEnd
    guest: GuestEnd

    @property
    def dropped(self) -> int:
        """How many bytes the guest's rings dropped."""
        return self.host.endpoint.counters.gap_bytes


def run(
    seed: int,
    faults: Faults,
    *,
    up_bytes: int = 20_000,
    down_bytes: int = 20_000,
    max_payload: int = 1024,
    window: int = 8192,
    processes: int = 0,
    controls: int = 3,
    ring: bool = False,
    rate: float = 20e6,
    limit_seconds: float = 1200.0,
) -> Outcome:
    """Send bytes and control messages both ways over a faulty line until all has arrived.

    Cuts come at random instants, of the whole line or of what looks like one only to the guest,
    and so do the deaths of the host's process. `exact` is False when the simulated time ran out or
    anything differs from what was sent and is not known to be missing.
    """
    rng = random.Random(seed)
    plan = Plan.draw(rng, down=down_bytes, up=up_bytes, processes=processes, controls=controls)
    plan.ring = ring
    sizes = {"max_payload": max_payload, "window": window}
    host = HostEnd.make(plan, rng, **sizes)
    guest = GuestEnd.make(
        plan,
        rng,
        **sizes,
        buffer_bytes=max(4 * max_payload, 4096),
        unread_bytes=4096,
        away_seconds=0.5,
    )
    lines = {id(host): Line(rng, faults, rate=rate), id(guest): Line(rng, faults, rate=rate)}
    now = 0.0
    cuts = 0
    absent_until = 0.0
    while now < limit_seconds:
        now += STEP_SECONDS
        if rng.random() < faults.cut:
            cuts += 1
            _cut(rng, host, guest, lines)
        if now >= absent_until:
            _turn(host, guest, lines, now, rng)
            if rng.random() < faults.restart:
                cuts += 1
                absent_until = now + rng.uniform(0, faults.outage_seconds)
                _kill(rng, host, guest, lines, absent_until)
        elif rng.random() < 0.1:
            lines[id(host)].drop_all()  # nobody reads, and QEMU throws it away
        _turn(guest, host, lines, now, rng)
        if host.done and guest.done and host.is_exact(guest) and guest.is_exact(host):
            break
    exact = host.done and guest.done and host.is_exact(guest) and guest.is_exact(host)
    injected = sum(line.injected for line in lines.values())
    return Outcome(exact, now, injected, cuts, host, guest)


def _turn(end: End, peer: End, lines: dict[int, Line], now: float, rng: random.Random) -> None:
    """Let one end read, work, and write."""
    data = lines[id(peer)].read(now)
    split = rng.randrange(len(data) + 1)
    for piece in (data[:split], data[split:]):
        end.take(end.endpoint.receive(piece, now))
    deadline = end.endpoint.deadline()
    if deadline is not None and deadline <= now:
        end.take(end.endpoint.tick(now))
    end.feed()
    end.say()
    if isinstance(end, HostEnd):
        end.keep()
    line = lines[id(end)]
    room = line.room()
    if room:
        line.write(end.endpoint.data_to_send(now, room), now)


def _kill(
    rng: random.Random, host: HostEnd, guest: GuestEnd, lines: dict[int, Line], now: float
) -> None:
    """Kill the host's process, perhaps between what it read and what it wrote down of it."""
    if rng.random() < 0.5:
        host.take(host.endpoint.receive(lines[id(guest)].read(now), now))
        host.feed()
        host.say()
    host.die(now)
    for line in lines.values():
        line.cut()
    if rng.random() < 0.5:
        guest.endpoint.transport_lost()


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
    """Run random sessions until `count` faults, cuts and kills were injected; return what failed.

    Rates are drawn up to 0.1 % of all bytes, whatever the length of frames, and up to 0.7 faults
    per frame, bursts up to 2000 bytes, a cut or a kill every tenth of a second.
    """
    rng = random.Random(seed)
    failures = []
    injected = 0
    while injected < count:
        session = rng.randrange(2**32)
        max_payload = rng.choice([64, 255, 1024, 4096, 32768])
        burst = rng.choice([1, 1, 10, 300, 2000])
        rate = min(1e-3, rng.choice([0.01, 0.1, 0.7, 20]) / (max(max_payload, 128) + burst))
        rate = min(rate, 0.2 / burst)  # connecting needs 136 bytes in a row
        drop, corrupt, double = (rng.random() for _ in range(3))
        each = rate / (drop + corrupt + double)
        faults = Faults(
            drop * each,
            corrupt * each,
            double * each,
            garble=rng.choice([0.0, 0.01, 0.1]),
            cut=rng.choice([0.0, 0.001, 0.02]),
            restart=rng.choice([0.0, 0.001, 0.02]),
            outage_seconds=rng.choice([0.0, 2.0]),
            burst=burst,
        )
        outcome = run(
            session,
            faults,
            up_bytes=rng.choice([0, 1, 60 * max_payload]),
            down_bytes=rng.choice([0, 1, 40 * max_payload]),
            max_payload=max_payload,
            window=max_payload * rng.randint(1, 40),
            processes=rng.choice([0, 0, 1, 8]),
            ring=rng.random() < 0.3,
            rate=rng.choice([20e6, 400e3]),
        )
        injected += outcome.faults + outcome.cuts
        if not outcome.exact:
            failures.append(f"session {session} with {faults}, frames of {max_payload}: not exact")
    return failures
