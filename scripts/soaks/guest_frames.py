"""A guest with the key and no manners: frames with good tags and hostile content, into a host.

What must come of each is events or a ProtocolError, within bounded memory. The relay around such a
host meets the same frames in relay_frames.
"""

from __future__ import annotations

import gc
import random
import resource
from typing import Any

from agent.wire import Closed, Data, Endpoint, ProtocolError, Role, Unopened
from agent.wire.c_frame import LAST_PROCESS
from scripts.soaks._hostile_frames import MAX_PAYLOAD, WINDOW, HostileFrames

COUNT = 1_000_000  # frames

_KEY = bytes(range(32))
_SIZES: dict[str, Any] = {"max_payload": MAX_PAYLOAD, "window": WINDOW, "buffer_bytes": 65536}
_LONGEST_SESSION = 3000  # frames: the host should get old as well
_GROWN_KIB = 64 << 10
_BATCH = 20


class _Session:
    """A host in the middle of a session, and a guest's keys to say anything with."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.host = Endpoint(Role.HOST, _KEY, nonce=rng.randbytes(16), now=0.0, **_SIZES)
        guest = Endpoint(Role.GUEST, _KEY, nonce=rng.randbytes(16), now=0.0, **_SIZES)
        for _ in range(3):
            guest.receive(self.host.data_to_send(0.0), 0.0)
            self.host.receive(guest.data_to_send(0.0), 0.0)
        self._frames = HostileFrames(guest, rng, rng.choice([0.002, 0.02, 0.3]))
        self._now = 0.0

    def step(self, count: int) -> int:
        """Let the host take some frames and answer; return the bytes that events held."""
        rng = self._rng
        self._now += rng.choice([0.0, 0.01, 3.0])
        held = 0
        for events in (
            self.host.receive(self._frames.line(count), self._now),
            self.host.tick(self._now),
        ):
            for event in events:
                if isinstance(event, Data):
                    held += len(event.data)
                    if rng.random() < 0.9:
                        self.host.consumed(event.stream, len(event.data))
                elif isinstance(event, (Closed, Unopened)):
                    self._frames.open.discard(event.process)
        if rng.random() < 0.05 and len(self._frames.open) < 4:
            process = rng.choice([1, 2, 3, LAST_PROCESS])
            if process not in self._frames.open:
                self.host.open(process)
                self._frames.opened(process)
        for process in self._frames.open:
            self.host.send(4 * process + 1, rng.randbytes(50)) if process else None
        self.host.data_to_send(self._now)
        return held


def run(count: int, seed: int) -> list[str]:
    """Send `count` hostile frames; return every reaction that is not allowed, one sentence each."""
    rng = random.Random(seed)
    failures: list[str] = []
    sent = sessions = ended = oldest = 0
    baseline = None
    while sent < count:
        session_seed = rng.randrange(2**32)
        session = _Session(random.Random(session_seed))
        sessions += 1
        frames = 0
        try:
            while frames < _LONGEST_SESSION and sent < count:
                held = session.step(_BATCH)
                frames += _BATCH
                sent += _BATCH
                oldest = max(oldest, frames)
                # What the streams' windows and the link's hold, inflated at most 4 times.
                if held > 9 * 8192 + 4 * 8192 + _BATCH * 4096:
                    failures.append(f"session {session_seed}: {held} bytes in one batch")
                failures += [f"session {session_seed}: {text}" for text in _grown(session.host)]
        except ProtocolError:
            ended += 1
            sent += _BATCH
        except Exception as error:
            failures.append(f"session {session_seed}: {type(error).__name__}: {error}")
        if sessions == 200:
            gc.collect()
            baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (baseline or 1 << 60)
    if grown > _GROWN_KIB:
        failures.append(f"memory grew by {grown} KiB")
    if not ended or oldest < min(count, _LONGEST_SESSION):
        failures.append(f"{ended} sessions ended, the oldest after {oldest} frames: no good soak")
    return failures


def _grown(host: Endpoint) -> list[str]:
    """Return what a host holds more of than it may."""
    found = []
    if host._receiver.held_bytes > 8192 + 1024:
        found.append(f"{host._receiver.held_bytes} bytes behind a gap")
    if len(host._receiver._held) > 256:
        found.append(f"{len(host._receiver._held)} frames behind a gap")
    if len(host._parser._buffer) > 1024 + 8 + 48:
        found.append(f"{len(host._parser._buffer)} bytes in the parser")
    if host._streams.pool.used > 65536 + 4 * 2048 + 1024:
        found.append(f"{host._streams.pool.used} bytes to be sent")
    return found
