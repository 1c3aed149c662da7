"""A line between a hypervisor and a relay that damages, forges, repeats and is cut.

Owns the socket that the hypervisor connects to, the thread that moves the bytes, and what is done
to them. It connects to the relay when the hypervisor connects to it, and loses one with the other,
as a socket of QEMU's own would.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from agent.host.transport import Connection, UnixListener
from agent.wire import STDIN, STDOUT
from agent.wire.c_frame import FrameType
from agent.wire.frames import Frame, Sealer

_BURST_BYTES = 64
_REPEATED_BYTES = 16384  # some whole frames
_TURN_SECONDS = 0.05
_NEVER = 1 << 62


@dataclass(frozen=True)
class Faults:
    """Chances per byte, both ways. A burst is up to 64 bytes long."""

    flip: float = 0.0  # another byte in its place
    burst: float = 0.0  # noise in their place
    drop: float = 0.0  # a burst of them is missing
    replay: float = 0.0  # what has passed passes again
    forge: float = 0.0  # a frame under another key comes between
    cut: float = 0.0  # the connection ends


class _Way:
    """One direction: what comes from `source` goes to `sink`, a piece at a time."""

    def __init__(self, line: DamagedLine, source: Connection, sink: Connection, stream: int):
        self.source, self.sink = source, sink
        self._line = line
        self._stream = stream
        self._passed = b""

    def move(self) -> bool:
        """Move a piece if there is one and room for it; return whether the line still stands."""
        if not self.sink.send():
            return True
        data = self.source.receive()
        if data is None:
            return False
        if data:
            damaged, stands = self._damage(data)
            self._passed = (self._passed + data)[-_REPEATED_BYTES:]
            self.sink.send(damaged)
            return stands
        return True

    def _damage(self, data: bytes) -> tuple[bytes, bool]:
        line, rng = self._line, self._line.rng
        damaged = bytearray(data)
        for kind in (field.name for field in fields(Faults)):
            rate = getattr(line.faults, kind)
            at = _gap(rng, rate)
            while at < len(damaged):
                line.counts[kind] += 1
                if kind == "flip":
                    damaged[at] ^= rng.randrange(1, 256)
                elif kind == "burst":
                    end = min(len(damaged), at + rng.randrange(1, _BURST_BYTES))
                    damaged[at:end] = rng.randbytes(end - at)
                elif kind == "drop":
                    del damaged[at : at + rng.randrange(1, _BURST_BYTES)]
                elif kind == "replay":
                    damaged[at:at] = self._passed
                    at += len(self._passed)
                elif kind == "forge":
                    forged = self._forged()
                    damaged[at:at] = forged
                    at += len(forged)
                else:
                    return bytes(damaged[:at]), False
                at += _gap(rng, rate)
        return bytes(damaged), True

    def _forged(self) -> bytes:
        """Return a frame whose header is good: who made it knows everything but the key."""
        rng = self._line.rng
        number = rng.choice([0, rng.randrange(1 << 20), 1 << 40])
        frame = Frame(FrameType.DATA, 0, self._stream, number, number, rng.randbytes(200))
        return Sealer(secrets.token_bytes(32)).seal(frame)


class DamagedLine:
    """Listen at `path` for a hypervisor, connect it to `target`; `faults` may change meanwhile."""

    def __init__(self, path: Path, target: Path, *, faults: Faults | None = None, seed: int = 1):
        self.faults = faults or Faults()
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._target = target
        self._listener = UnixListener(path)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut the line, and listen no more."""
        self._ends.set()
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            select.select([self._listener], [], [], _TURN_SECONDS)
            hypervisor = self._listener.accept()
            if hypervisor is None:
                continue
            with contextlib.closing(hypervisor):
                relay = self._connect()
                if relay is not None:
                    with contextlib.closing(relay):
                        self._carry(hypervisor, relay)

    def _connect(self) -> Connection | None:
        while not self._ends.is_set():
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.connect(os.fspath(self._target))
            except OSError:
                connected.close()
                self._ends.wait(_TURN_SECONDS)
            else:
                self.counts["connections"] += 1
                return Connection(connected)
        return None

    def _carry(self, hypervisor: Connection, relay: Connection) -> None:
        ways = (_Way(self, hypervisor, relay, STDOUT), _Way(self, relay, hypervisor, STDIN))
        while not self._ends.is_set():
            readers = [way.source for way in ways if not way.sink.blocked]
            writers = [way.sink for way in ways if way.sink.blocked]
            select.select(readers, writers, [], _TURN_SECONDS)
            stands = [way.move() for way in ways]  # both, though the first may have ended
            if not all(stands):
                return


@contextlib.contextmanager
def damaged_line(
    path: Path, target: Path, *, faults: Faults | None = None, seed: int = 1
) -> Iterator[DamagedLine]:
    """Yield a line from `path`, where a hypervisor connects, to a relay at `target`."""
    line = DamagedLine(path, target, faults=faults, seed=seed)
    try:
        yield line
    finally:
        line.close()


def _gap(rng: random.Random, rate: float) -> int:
    return 1 + int(rng.expovariate(rate)) if rate else _NEVER
