"""What a guest with the key and no manners sends: frames with good tags and hostile content.

They look right often enough to get deep: right sequence, right stream, almost right payload. Owns
the frames; who takes them, and what that must not do to him, is the soaks' business.
"""

from __future__ import annotations

import json
import random
import zlib

from agent.wire import Endpoint
from agent.wire.c_frame import GAP, LAST_PROCESS, PIECE, POSITION, Flag, FrameType
from agent.wire.frames import Frame, Sealer

MAX_PAYLOAD, WINDOW = 1024, 8192  # of the host that is met

_TYPES = [value for name, value in vars(FrameType).items() if not name.startswith("_")]
_MESSAGES: list[object] = [
    {"type": "exited", "code": 0, "signal": None},
    {"type": "exited", "code": -1},
    {"type": "exited", "code": "x"},
    {"type": "exited", "process": 1, "code": 3, "signal": None, "core": 1, "oom": []},
    {"type": "exited", "process": 1 << 70, "code": 3, "signal": None},
    {"type": "failed", "process": 2, "code": 127, "kind": "k" * 400, "message": "\x1b[2J" * 50},
    {"type": "failed", "code": 125, "kind": None, "message": {}},
    {"type": "started", "pid": 1},
    {"type": "started", "process": 1, "pid": 1 << 200},
    {"type": "started", "process": -1, "pid": True},
    {"type": ["started"]},
    {"process": {}},
    [],
]


class HostileFrames:
    """Say anything as `guest`, whose session is established and who is not asked any more.

    `open` are the processes that the host has opened; `hostility` is the share of frames that are
    not what a guest may send.
    """

    def __init__(self, guest: Endpoint, rng: random.Random, hostility: float) -> None:
        self.open: set[int] = {0}
        self._rng = rng
        self._hostility = hostility
        keys = guest._handshake.session_keys  # the guest is the attacker: it knows them
        assert keys is not None
        self._sealer: Sealer = keys.ours
        self._greeter: Sealer = guest._handshake.greeting_keys.ours
        self._sequence = guest._sender.next_sequence
        self._transmission = guest._sender._last_transmission
        self._offsets: dict[int, int] = {}
        self._finished: set[int] = set()

    def line(self, count: int) -> bytes:
        """Return that many frames, as they go on the line."""
        return b"".join(self._sealed(self._frame()) for _ in range(count))

    def opened(self, process: int) -> None:
        """Learn of a process that the host has opened, maybe again."""
        self.open.add(process)
        self._offsets = {s: n for s, n in self._offsets.items() if s // 4 != process}
        self._finished = {stream for stream in self._finished if stream // 4 != process}

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
        process = rng.choice(sorted(self.open))
        stream = 4 * process + rng.choice([2, 3])
        number = self._sequence - 1
        kind = rng.choice([FrameType.DATA] * 8 + [FrameType.GAP, FrameType.CREDIT])
        if stream in self._finished:
            kind = FrameType.CREDIT
        flags = Flag.FIN if rng.random() < 0.01 else 0
        payload = rng.randbytes(rng.choice([1, 10, 300]))
        if kind == FrameType.CREDIT:
            stream, flags, payload = 4 * process + 1, 0, rng.randbytes(8)
        elif kind == FrameType.GAP:
            flags = 0
            payload = GAP.pack(self._offsets.get(stream, 0), rng.choice([1, 1 << 20, 1 << 50]))
            self._offsets[stream] = self._offsets.get(stream, 0) + GAP.unpack(payload)[1]
        else:
            self._offsets[stream] = self._offsets.get(stream, 0) + len(payload)
            if flags:
                self._finished.add(stream)
        return Frame(kind, flags, stream, number, self._transmission, payload)

    def _stream(self) -> int:
        process = self._rng.choice([0, 0, 1, 2, 3, LAST_PROCESS])
        return 4 * process + self._rng.choice([0, 0, 1, 2, 2, 3, 3])

    def _payload(self, kind: int) -> bytes:
        rng = self._rng
        odd = rng.randbytes(rng.choice([0, 1, 8, 16, 20, 64, 128]))
        if kind < FrameType.DATA:
            return odd
        return rng.choice(
            [
                odd,
                rng.randbytes(MAX_PAYLOAD + 8),
                json.dumps(rng.choice(_MESSAGES)).encode(),
                json.dumps(rng.choice(_MESSAGES)).encode(),
                b"[" * 1000,
                b'{"a":' * 200,
                zlib.compress(bytes(rng.choice([10, 4096, 1 << 20])), wbits=-15),
                GAP.pack(rng.choice([0, 5, 1 << 63]), rng.choice([0, 1, (1 << 64) - 1])),
                PIECE.pack(rng.choice([0, 64, 63, 1 << 31]), rng.choice([1, 64, 1024, 1 << 31]))
                + rng.randbytes(64),
                POSITION.pack(rng.choice([1, 2]), rng.choice([0, 1 << 63]), 1 << 20),
            ]
        )
