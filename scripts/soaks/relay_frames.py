"""A guest with the key and no manners, into a relay with its clients, its log and its journal.

After each session the relay must have lived, what is on disk must be well-formed and within its
caps, and memory must not have grown.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent.host import RelayError
from agent.host import client as clients
from agent.host.client.connection import Connection
from agent.host.relay import Condition, RelayOptions, RelayServer, write_key
from agent.host.relay.c_relay import GAP, RecordKind
from agent.host.relay.journal import read_state
from agent.host.relay.log import read_records, segment_starts
from agent.host.relay.records import Record
from agent.wire import Endpoint, Role
from scripts.soaks._hostile_frames import MAX_PAYLOAD, HostileFrames
from tests.integration.relay_runs import Attached, machine_folder

COUNT = 1_000_000  # frames that came in with a good tag
_BATCH = 50
_LONGEST_SESSION = 10_000
_WINDOW = 131_072  # the guest does not look at what it is granted, so it had better be much
_SECONDS = 60.0  # for anything
_GROWN_KIB = 64 << 10
_WARM = 30  # sessions before memory is measured
_OPTIONS = RelayOptions(
    max_payload=MAX_PAYLOAD,
    window=_WINDOW,
    segment_bytes=50_000,
    log_bytes=200_000,
    hold_seconds=0.2,
)
# The log and the last flush, the journal before it is compacted and after, stdin likewise.
_DISK_BYTES = 200_000 + 100_000 + 2 * (1 << 20) + (64 << 10)


def run(count: int, seed: int) -> list[str]:
    """Send `count` frames in all; return every reaction that is not allowed, one sentence each."""
    rng = random.Random(seed)
    failures: list[str] = []
    taken = sessions = faults = 0
    baseline: int | None = None
    with machine_folder() as (folder, line, _key):
        while taken < count and not failures:
            session_seed = rng.randrange(2**32)
            session = _Session(folder, line, random.Random(session_seed))
            found = session.run(min(_LONGEST_SESSION, count - taken))
            failures += [f"session {session_seed}: {text}" for text in found]
            sessions += 1
            taken += max(1, session.taken)
            faults += session.fault
            if sessions == _WARM:
                gc.collect()
                baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = now - (baseline or now)
    if grown > _GROWN_KIB:
        failures.append(f"memory grew by {grown} KiB")
    if not faults:
        failures.append("no session ended with a fault: no good soak")
    figures = f"{sessions} sessions, {faults} of them ended as a fault"
    print(f"{taken} frames in {figures}; memory grew by {grown} KiB", file=sys.stderr)
    return failures


class _Session:
    """One relay and one guest, from another key to the end."""

    def __init__(self, folder: Path, line: Path, rng: random.Random) -> None:
        self.taken = 0
        self.fault = False
        self._folder = folder
        self._line = line
        self._rng = rng
        self._error: BaseException | None = None
        self._ends = threading.Event()

    def run(self, most: int) -> list[str]:
        """Send at most so many frames; return what must not be."""
        key = self._rng.randbytes(32)
        write_key(self._folder, key)
        server = RelayServer(self._folder, self._line, options=_OPTIONS)
        thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
        thread.start()
        address = clients.UnixAddress(self._folder / "relay.sock")
        replay = self._rng.choice(["all", "none", 1000])
        attached = Attached(address, b"stdin" * 1000, replay=replay, reconnect_seconds=0)
        try:
            self._attack(server, address, key, most)
            told = clients.describe(address)
            self.taken = told["counters"]["frames_received"]
        except (OSError, RelayError) as error:
            return [f"the relay does not answer: {error!r} ({self._error!r})"]
        finally:
            self._ends.set()
            thread.join(_SECONDS)
            attached.join(_SECONDS)
        if thread.is_alive() or self._error is not None:
            return [f"the relay ended with {self._error!r}"]
        if attached.result is None or isinstance(attached.result, str):
            return [f"its client ended with {attached.result!r}"]
        return list(_disk(self._folder))

    def _serve(self, server: RelayServer) -> None:
        with server:

            def look() -> None:
                if self._ends.is_set():
                    server.stop()

            server.call_every(0.02, look)
            try:
                server.run()
            except BaseException as error:  # the failure that is told
                self._error = error

    def _attack(self, server: RelayServer, address: clients.Address, key: bytes, most: int) -> None:
        rng = self._rng
        with contextlib.ExitStack() as stack, socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_SECONDS)
            line.connect(os.fspath(self._line))
            guest = _greet(line, key)
            frames = HostileFrames(guest, rng, rng.choice([0.0005, 0.005, 0.05]))
            line.setblocking(False)
            sent = 0
            while sent < most and not self.fault:
                _send(line, frames.line(_BATCH))
                sent += _BATCH
                if rng.random() < 0.02 and len(frames.open) < 4:
                    with contextlib.suppress(RelayError):  # it ended meanwhile, or is at fault
                        client = stack.enter_context(Connection(address, seconds=_SECONDS))
                        answer = client.ask({"type": "exec", "args": ["x"], "stdin": True})
                        frames.opened(int(answer["process"]))
                self.fault = server.machine.diagnosis().condition is Condition.FAULT


def _greet(line: socket.socket, key: bytes) -> Endpoint:
    """Establish a session as an honest guest does."""
    now = time.monotonic()
    guest = Endpoint(
        Role.GUEST, key, nonce=os.urandom(16), max_payload=MAX_PAYLOAD, window=_WINDOW, now=now
    )
    while not guest.established:
        guest.receive(line.recv(65536), now)
        line.sendall(guest.data_to_send(now))
    return guest


def _send(line: socket.socket, data: bytes) -> None:
    """Send, and read what comes, which may be what keeps the relay from reading."""
    view = memoryview(data)
    until = time.monotonic() + _SECONDS
    while view:
        with contextlib.suppress(BlockingIOError):
            line.recv(65536)
        try:
            view = view[line.send(view) :]
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError("the relay does not read") from None
            time.sleep(0.001)


def _disk(folder: Path) -> Iterator[str]:
    """Yield what is wrong with what the relay has left on disk."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > _DISK_BYTES:
        yield f"{size} bytes on disk"
    state = read_state(folder / "journal")
    starts = segment_starts(folder / "log")
    position = starts[0]
    while chunk := read_records(folder / "log", position):
        for record in chunk:
            if not isinstance(record, Record):
                yield f"the log is broken from {position} to {record.end}"
            elif record.kind in (RecordKind.EXIT, RecordKind.SESSION):
                json.loads(record.payload)
            elif record.kind == RecordKind.GAP:
                GAP.unpack(record.payload)
            elif record.kind != RecordKind.OUTPUT:
                yield f"a record of kind {record.kind} at {position}"
            position = record.end
    if position != state.log_end:
        yield f"the log ends at {position}, the journal says {state.log_end}"
    for _entry in clients.saved_logs(folder):
        pass
