"""Runs of a relay that is killed while bytes flow both ways; each says what was not exact.

Everything is real but the machine: the relay is a process, the guest a protocol end in a thread
behind a faulty line, the client the library's own. Owns the plan of a run and its verdict.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.host import Stdio
from agent.host import client as clients
from agent.host.relay import write_key
from agent.host.relay.c_relay import RecordKind
from agent.host.relay.log import read_records
from agent.host.relay.records import Record
from agent.wire import STDERR, STDOUT
from tests.integration.relay_guest import Guest, LineFaults, Program

PROCESS = Path(__file__).with_name("relay_process.py")
_STARTS_SECONDS = 60.0


class RelayProcess:
    """A relay that can be killed and started again on the same folder."""

    def __init__(self, folder: Path, line: Path, options: str = '{"stay": true}') -> None:
        self.folder = folder
        self._command = [sys.executable, str(PROCESS), str(folder), str(line), options]
        self.address = clients.UnixAddress(folder / "relay.sock")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(self._command)
        until = time.monotonic() + _STARTS_SECONDS
        while True:
            try:
                clients.describe(self.address)
            except (clients.LostError, clients.ChannelError):
                assert self.process.poll() is None, "the relay ended"
                assert time.monotonic() < until, "the relay does not answer"
                threading.Event().wait(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill it, between any two instructions."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def machine_folder() -> Iterator[tuple[Path, Path, bytes]]:
    """Yield a folder for a relay with its key in it, the path of a line, and the key."""
    with tempfile.TemporaryDirectory(prefix="saltflat-relay-") as name:
        key = os.urandom(32)
        folder = Path(name) / "machine"
        write_key(folder, key)
        yield folder, Path(name) / "line", key


@contextlib.contextmanager
def relayed(
    program: Program, options: str = '{"stay": true}'
) -> Iterator[tuple[RelayProcess, Guest, Path]]:
    """Yield a relay process, a guest that runs `program`, and the relay's folder."""
    with machine_folder() as (folder, line, key):
        relay = RelayProcess(folder, line, options)
        guest = Guest(line, key, program)
        try:
            yield relay, guest, folder
        finally:
            guest.close()
            relay.kill()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        threading.Event().wait(0.01)


@contextlib.contextmanager
def null() -> Iterator[int]:
    """Yield a descriptor that takes everything and gives nothing."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def logged(folder: Path, stream: int) -> bytes:
    """Return the bytes of a stream that are in a log."""
    pieces = []
    position = 0
    while chunk := read_records(folder / "log", position):
        for record in chunk:
            if not isinstance(record, Record):
                pieces.append(b"<missing>")
            elif record.kind == RecordKind.OUTPUT and record.stream == stream:
                pieces.append(record.payload)
            position = record.end
    return b"".join(pieces)


class Attached:
    """A client in a thread: gives `stdin`, collects what comes, ends with a status or an error."""

    def __init__(self, address: clients.Address, stdin: bytes | None, **options: Any) -> None:
        self.result: Any = None
        self.out, self.err = bytearray(), bytearray()
        self._given = stdin
        self._ends = [os.pipe() for _ in range(3)]
        (self._in, self._in_w), (out_r, self._out), (err_r, self._err) = self._ends
        self._helpers = [
            threading.Thread(target=self._collect, args=(out_r, self.out), daemon=True),
            threading.Thread(target=self._collect, args=(err_r, self.err), daemon=True),
            threading.Thread(target=self._give, daemon=True),
        ]
        stdio = Stdio(None if stdin is None else self._in, self._out, self._err)
        self._thread = threading.Thread(
            target=self._attach, args=(address, stdio, options), daemon=True
        )
        for thread in (*self._helpers, self._thread):
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.result = "the client is not done"

    def _attach(self, address: clients.Address, stdio: Stdio, options: dict[str, Any]) -> None:
        result: Any = None
        try:
            result = clients.attach(address, stdio, **options)
        except Exception as error:  # shown by the verdict
            result = error
        finally:
            for descriptor in (self._out, self._err, self._in):
                os.close(descriptor)
            for thread in self._helpers[:2]:
                thread.join(60)
            self.result = result  # not before all that came is there

    def _collect(self, descriptor: int, into: bytearray) -> None:
        while data := os.read(descriptor, 65536):
            into += data
        os.close(descriptor)

    def _give(self) -> None:
        data = memoryview(self._given or b"")
        with contextlib.suppress(OSError):  # the client has gone
            while data:
                data = data[os.write(self._in_w, data[:65536]) :]
        os.close(self._in_w)


def run(seed: int, *, kills: int, out_bytes: int = 6 << 20, in_bytes: int = 2 << 20) -> list[str]:
    """Send bytes both ways while the relay is killed `kills` times; return what was not exact."""
    rng = random.Random(seed)
    faults = LineFaults()
    if rng.random() < 0.7:
        faults = replace(
            faults,
            corrupt=rng.choice([0, 0.01, 0.05]),
            drop=rng.choice([0, 0.01, 0.03]),
            cut=rng.choice([0, 0.002]),
            stall=rng.choice([0, 0.02]),
        )
    program = Program(
        out=rng.randbytes(out_bytes),
        err=b"%d: a line of text\n" % seed * (out_bytes // 200),
        code=seed % 200,
    )
    stdin = rng.randbytes(in_bytes)
    with machine_folder() as (folder, line, key):
        options = {"stay": True, "segment_bytes": rng.choice([300_000, 10_000_000])}
        relay = RelayProcess(folder, line, json.dumps(options))
        guest = Guest(line, key, program, faults=faults, seed=seed)
        attached = Attached(relay.address, stdin)
        try:
            for _ in range(kills):
                threading.Event().wait(rng.uniform(0.02, 0.4))
                relay.kill()
                relay.start()
            attached.join(120)
            return list(_verdict(seed, program, stdin, attached, folder))
        finally:
            guest.close()
            relay.kill()


def _verdict(
    seed: int, program: Program, stdin: bytes, attached: Attached, folder: Path
) -> Iterator[str]:
    if getattr(attached.result, "code", None) != program.code:
        yield f"seed {seed}: the client ended with {attached.result!r}"
    for name, got, sent in (
        ("stdout at the client", attached.out, program.out),
        ("stderr at the client", attached.err, program.err),
        ("stdin at the guest", program.stdin, stdin),
        ("stdout in the log", logged(folder, STDOUT), program.out),
        ("stderr in the log", logged(folder, STDERR), program.err),
    ):
        if hashlib.sha256(got).digest() != hashlib.sha256(sent).digest():
            yield f"seed {seed}: {name} differs ({len(got)} of {len(sent)} bytes)"


def soak(count: int, seed: int) -> list[str]:
    """Kill relays `count` times in all, over as many runs as that takes."""
    rng = random.Random(seed)
    failures: list[str] = []
    while count > 0:
        kills = min(count, rng.randint(3, 10))
        failures += run(rng.randrange(1 << 32), kills=kills)
        count -= kills
    return failures
