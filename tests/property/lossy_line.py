"""A simulated serial line that loses, damages and repeats bytes. Owns the fault injection."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

STEP_SECONDS = 0.002


@dataclass(frozen=True)
class Faults:
    """Chances per byte; `cut` and `restart` are per step; `burst` is the longest run of bytes hit.

    `garble` puts foreign bytes (console text, and pieces of earlier frames) between writes.
    `restart` kills the host's process; `outage_seconds` is how long at most nobody is there then.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    duplicate: float = 0.0
    garble: float = 0.0
    cut: float = 0.0
    restart: float = 0.0
    outage_seconds: float = 0.0
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
