"""A guest for the relay's tests: a real guest end of the protocol, on a real socket, over a line
with faults. Owns the thread, the connection that comes back like QEMU's, and the faults.

What the guest does is a `Work`: it gets events and may act after each turn.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.wire import (
    STDERR,
    STDIN,
    STDOUT,
    Closed,
    Control,
    Data,
    Endpoint,
    Event,
    Finished,
    Opened,
    Role,
    process_of,
    stream_of,
)


@dataclass
class LineFaults:
    """Chances per piece of bytes, both ways: each piece has at most `piece` bytes."""

    corrupt: float = 0.0
    drop: float = 0.0
    cut: float = 0.0
    stall: float = 0.0
    piece: int = 4096

    def apply(self, data: bytes, rng: random.Random) -> bytes:
        out = bytearray()
        for start in range(0, len(data), self.piece):
            piece = bytearray(data[start : start + self.piece])
            if rng.random() < self.drop:
                at = rng.randrange(len(piece))
                del piece[at : at + rng.randint(1, 64)]
            if piece and rng.random() < self.corrupt:
                piece[rng.randrange(len(piece))] ^= 1 << rng.randrange(8)
            out += piece
        return bytes(out)


class Guest:
    """A guest in a thread. `work(guest, events)` is called after every turn until it says True."""

    def __init__(
        self,
        line: Path,
        key: bytes,
        work: Callable[[Guest, list[Event]], bool],
        *,
        faults: LineFaults | None = None,
        seed: int = 0,
        buffer_bytes: int = 1 << 20,
    ) -> None:
        self.endpoint = Endpoint(
            Role.GUEST, key, nonce=os.urandom(16), now=time.monotonic(), buffer_bytes=buffer_bytes
        )
        self.line = line
        self.work = work
        self.faults = faults or LineFaults()
        self.rng = random.Random(seed)
        self.socket: socket.socket | None = None
        self.unsent = b""
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.cuts = 0
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def join(self, seconds: float = 60) -> None:
        """Wait until its work is done; raise what went wrong."""
        self.thread.join(seconds)
        if self.error is not None:
            raise self.error
        assert not self.thread.is_alive(), "the guest is not done"

    def close(self) -> None:
        """End it, done or not."""
        self.stop.set()
        self.thread.join(10)

    def _main(self) -> None:
        try:
            while not self.stop.is_set() and not self.work(self, self._turn()):
                pass
        except BaseException as error:  # shown by the test that joins
            self.error = error
        finally:
            self._drop()

    def _turn(self) -> list[Event]:
        if self.socket is None and not self._connect():
            self.stop.wait(0.02)
            return self.endpoint.tick(time.monotonic())
        if self.rng.random() < self.faults.cut:
            self.cuts += 1
            self._drop()
            return []
        if self.rng.random() < self.faults.stall:
            self.stop.wait(self.rng.uniform(0, 0.1))
        self._send()
        deadline = self.endpoint.deadline()
        wait = 0.02 if deadline is None else min(0.02, max(0.0, deadline - time.monotonic()))
        if self.socket is not None:
            select.select([self.socket], [self.socket] if self.unsent else [], [], wait)
        events = self._receive()
        return events + self.endpoint.tick(time.monotonic())

    def _connect(self) -> bool:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.connect(os.fspath(self.line))
        except OSError:
            connected.close()
            return False
        connected.setblocking(False)
        self.socket = connected
        return True

    def _drop(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            self.unsent = b""
            self.endpoint.transport_lost()

    def _send(self) -> None:
        assert self.socket is not None
        now = time.monotonic()
        try:
            while True:
                if not self.unsent:
                    self.unsent = self.faults.apply(self.endpoint.data_to_send(now), self.rng)
                if not self.unsent:
                    return
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._drop()

    def _receive(self) -> list[Event]:
        if self.socket is None:
            return []
        events: list[Event] = []
        try:
            for _ in range(8):
                data = self.socket.recv(65536)
                if not data:
                    self._drop()
                    break
                data = self.faults.apply(data, self.rng)
                events += self.endpoint.receive(data, time.monotonic())
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
        return events


@dataclass
class Program:
    """What runs in the guest: sends `out` and `err`, takes stdin, and ends with `code`.

    Ends when all was sent and, with `reads`, stdin has ended. Other processes echo their stdin,
    after a line with their arguments, and end with the code that their first argument is.
    """

    out: bytes = b""
    err: bytes = b""
    code: int = 0
    reads: bool = True
    ends: bool = True
    stdin: bytearray = field(default_factory=bytearray)
    controls: list[dict[str, object]] = field(default_factory=list)
    chunk: int = 65536

    def __post_init__(self) -> None:
        self.sent = {STDOUT: 0, STDERR: 0}
        self.stdin_ended = False
        self.said_started = self.said_exit = False
        self.echoes: dict[int, list[Any]] = {}  # process -> [args, pending bytes, stdin ended]

    def __call__(self, guest: Guest, events: list[Event]) -> bool:
        endpoint = guest.endpoint
        for event in events:
            self.take(endpoint, event)
        if not self.said_started:
            self.said_started = True
            endpoint.control({"type": "started", "pid": 1})
        for stream, data in ((STDOUT, self.out), (STDERR, self.err)):
            at = self.sent[stream]
            if at < len(data):
                self.sent[stream] += endpoint.send(stream, data[at : at + self.chunk])
        self.echo(endpoint)
        done = self.sent == {STDOUT: len(self.out), STDERR: len(self.err)}
        if self.ends and done and (self.stdin_ended or not self.reads) and not self.said_exit:
            self.said_exit = True
            endpoint.finish(STDOUT)
            endpoint.finish(STDERR)
            endpoint.control({"type": "exited", "code": self.code, "signal": None})
        return self.said_exit and not endpoint.unacknowledged()

    def take(self, endpoint: Endpoint, event: Event) -> None:
        if isinstance(event, Data):
            endpoint.consumed(event.stream, len(event.data))
            if event.stream == STDIN:
                self.stdin += event.data
            else:
                self.echoes[process_of(event.stream)][1] += event.data
        elif isinstance(event, Finished):
            if event.stream == STDIN:
                self.stdin_ended = True
            else:
                self.echoes[process_of(event.stream)][2] = True
        elif isinstance(event, Control):
            self.controls.append(event.message)
            if event.message["type"] in ("exec", "copy-in", "copy-out"):
                self.start(endpoint, event.message)
        elif isinstance(event, Opened):
            self.echoes[event.process] = [None, bytearray(), False]
        elif isinstance(event, Closed):
            self.echoes.pop(event.process, None)

    def start(self, endpoint: Endpoint, message: dict[str, Any]) -> None:
        process = message["process"]
        args = message.get("args", [])
        self.echoes[process][0] = args
        endpoint.control({"type": "started", "process": process, "pid": 100 + process})
        self.echoes[process][1][:0] = " ".join(args).encode() + b"\n"

    def echo(self, endpoint: Endpoint) -> None:
        for process, state in self.echoes.items():
            args, pending, ended = state[:3]
            if args is None or len(state) > 3:
                continue
            with contextlib.suppress(ValueError):
                del pending[: endpoint.send(stream_of(process, STDOUT), bytes(pending))]
            if ended and not pending:
                endpoint.finish(stream_of(process, STDOUT))
                endpoint.finish(stream_of(process, STDERR))
                code = int(args[0]) if args and args[0].isdigit() else 0
                endpoint.control(
                    {"type": "exited", "process": process, "code": code, "signal": None}
                )
                state.append("done")
