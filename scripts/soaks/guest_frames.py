"""A guest with the key and no manners: frames with good tags and hostile content, into a host.

What must come of each is events or a ProtocolError, within bounded memory. The frames look right
often enough to get deep: right sequence, right stream, almost right payload.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import zlib
from typing import Any

from agent.wire import Closed, Data, Endpoint, ProtocolError, Role, Unopened
from agent.wire.c_frame import GAP, LAST_PROCESS, PIECE, POSITION, Flag, FrameType
from agent.wire.frames import Frame, Sealer

COUNT = 1_000_000  # frames

_KEY = bytes(range(32))
_SIZES: dict[str, Any] = {"max_payload": 1024, "window": 8192, "buffer_bytes": 65536}
_TYPES = [value for name, value in vars(FrameType).items() if not name.startswith("_")]
_SEQUENCED = [kind for kind in _TYPES if kind >= FrameType.DATA]
_LONGEST_SESSION = 3000  # frames: the host should get old as well
_GROWN_KIB = 64 << 10
_BATCH = 20


class _Session:
    """A host in the middle of a session, and a guest's keys to say anything with."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.host = Endpoint(Role.HOST, _KEY, nonce=rng.randbytes(16), now=0.0, **_SIZES)
        guest = Endpoint(Role.GUEST, _KEY, nonce=rng.randbytes(16), now=0.0, **_SIZES)
        self._hostility = rng.choice([0.002, 0.02, 0.3])
        self._open: set[int] = {0}
        for _ in range(3):
            guest.receive(self.host.data_to_send(0.0), 0.0)
            self.host.receive(guest.data_to_send(0.0), 0.0)
        keys = guest._handshake.session_keys  # the guest is the attacker: it knows them
        assert keys is not None
        self._sealer: Sealer = keys.ours
        self._greeter: Sealer = guest._handshake.greeting_keys.ours
        self._sequence = guest._sender.next_sequence
        self._transmission = guest._sender._last_transmission
        self._offsets: dict[int, int] = {}
        self._now = 0.0

    def line(self, count: int) -> bytes:
        """Return that many frames, as they go on the line."""
        return b"".join(self._sealed(self._frame()) for _ in range(count))

    def _sealed(self, frame: Frame) -> bytes:
        greets = frame.type in (FrameType.HELLO, FrameType.HELLO_ACK, FrameType.REFUSE)
        return (self._greeter if greets else self._sealer).seal(frame)

    def _frame(self) -> Frame:
        rng = self._rng
        if rng.random() > self._hostility:
            return self._polite()
        kind = rng.choice(_TYPES)
        self._transmission += rng.choice([0, 1, 1, 1, 1, 2, 50])
        number = self._sequence + rng.choice([0, 0, 0, 1, 2, 255, 256, 257, 1 << 40])
        if kind < FrameType.DATA:
            number = rng.choice([0, 1, 5, self._sequence])
        return Frame(
            kind,
            rng.choice([0, 0, 0, Flag.FIN, Flag.MORE, Flag.COMPRESSED, Flag.PIECE, 255]),
            self._stream(),
            number,
            rng.choice([self._transmission] * 9 + [1 << 63]),
            self._payload(kind),
        )

    def _polite(self) -> Frame:
        """Return a frame that the host takes, mostly."""
        rng = self._rng
        self._transmission += 1
        self._sequence += 1
        process = rng.choice(sorted(self._open))
        stream = 4 * process + rng.choice([2, 3])
        number = self._sequence - 1
        kind = rng.choice([FrameType.DATA] * 8 + [FrameType.GAP, FrameType.CREDIT])
        flags = Flag.FIN if rng.random() < 0.02 else 0
        payload = rng.randbytes(rng.choice([1, 10, 300]))
        if kind == FrameType.CREDIT:
            stream, flags, payload = 4 * process + 1, 0, rng.randbytes(8)
        elif kind == FrameType.GAP:
            flags = 0
            payload = GAP.pack(self._offsets.get(stream, 0), rng.choice([1, 1 << 20, 1 << 50]))
            self._offsets[stream] = self._offsets.get(stream, 0) + GAP.unpack(payload)[1]
        else:
            self._offsets[stream] = self._offsets.get(stream, 0) + len(payload)
        return Frame(kind, flags, stream, number, self._transmission, payload)

    def _stream(self) -> int:
        process = self._rng.choice([0, 0, 1, 2, 3, LAST_PROCESS])
        return 4 * process + self._rng.choice([0, 1, 2, 2, 3, 3])

    def _payload(self, kind: int) -> bytes:
        rng = self._rng
        odd = rng.randbytes(rng.choice([0, 1, 8, 16, 20, 64, 128]))
        if kind < FrameType.DATA:
            return odd
        return rng.choice(
            [
                odd,
                rng.randbytes(1024 + 8),
                json.dumps({"type": "exited", "code": rng.choice([0, -1, "x", None])}).encode(),
                b"[" * 1000,
                b'{"a":' * 200,
                zlib.compress(bytes(rng.choice([10, 4096, 1 << 20])), wbits=-15),
                GAP.pack(rng.choice([0, 5, 1 << 63]), rng.choice([0, 1, (1 << 64) - 1])),
                PIECE.pack(rng.choice([0, 64, 63, 1 << 31]), rng.choice([1, 64, 1024, 1 << 31]))
                + rng.randbytes(64),
                POSITION.pack(rng.choice([1, 2]), rng.choice([0, 1 << 63]), 1 << 20),
            ]
        )

    def step(self, count: int) -> int:
        """Let the host take some frames and answer; return the bytes that events held."""
        rng = self._rng
        self._now += rng.choice([0.0, 0.01, 3.0])
        held = 0
        for events in (self.host.receive(self.line(count), self._now), self.host.tick(self._now)):
            for event in events:
                if isinstance(event, Data):
                    held += len(event.data)
                    if rng.random() < 0.9:
                        self.host.consumed(event.stream, len(event.data))
                elif isinstance(event, (Closed, Unopened)):
                    self._open.discard(event.process)
        if rng.random() < 0.05 and len(self._open) < 4:
            process = rng.choice([1, 2, 3, LAST_PROCESS])
            if process not in self._open:
                self.host.open(process)
                self._open.add(process)
                self._offsets = {s: n for s, n in self._offsets.items() if s // 4 != process}
        for process in self._open:
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
