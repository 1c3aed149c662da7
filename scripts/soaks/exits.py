"""Processes that exit at once, by exec and by run: all of their output, then the right status.

Through a relay, as clients see it. Many execs share a machine, a dozen at a time; every fiftieth
process is a machine's own, and one more client attaches to it when it has ended.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.host import Stdio
from agent.host import client as clients
from converter.machine.model import RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, booted
from tests.guests.relayed import relayed
from tests.integration.relay_runs import Attached, null, until

COUNT = 1000
_AT_ONCE = 12
_RUNS_PER = 50  # one run for so many
_MOST_BYTES = 3 * 65536  # some more than a pipe holds


def run(count: int, seed: int) -> list[str]:
    """Run `count` processes; return what was not complete."""
    rng = random.Random(seed)
    runs = max(1, count // _RUNS_PER)
    failures = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        for _ in range(runs):
            failures += _run_alone(work, link, _script(rng))
        failures += _execute(work, link, [_script(rng) for _ in range(count - runs)])
    return failures


@dataclass(frozen=True)
class _Script:
    """What a process writes, and its code."""

    out: int
    err: int
    code: int
    tty: bool

    @property
    def args(self) -> tuple[str, ...]:
        head = f"head -c {self.out} /dev/zero; head -c {self.err} /dev/zero >&2"
        return ("/bin/sh", "-c", f"{head}; exit {self.code}")

    def check(self, who: str, out: bytes, err: bytes, status: object) -> Iterator[str]:
        """Yield what is not as it should be."""
        code = getattr(status, "code", status)
        if (out, err, code) != (bytes(self.out), bytes(self.err), self.code):
            got = f"{len(out)} and {len(err)} bytes, {code!r}"
            yield f"{who}: expected {self.out} and {self.err} bytes, {self.code}; got {got}"


def _script(rng: random.Random) -> _Script:
    tty = rng.random() < 0.1  # which has no stderr of its own
    return _Script(
        out=rng.choice((0, 1, rng.randrange(5000), rng.randrange(_MOST_BYTES))),
        err=0 if tty else rng.choice((0, 0, rng.randrange(5000))),
        code=rng.randrange(256),
        tty=tty,
    )


def _run_alone(work: Path, link: Path, script: _Script) -> list[str]:
    config = RunConfig(args=script.args, tty=script.tty)
    failures: list[str] = []
    with booted(work, link, config) as machine, relayed(machine) as guest:
        for who in ("a run", "a run, attached to when it has ended"):
            attached = Attached(guest.address, None)
            attached.join(BOOT_SECONDS)
            failures += script.check(who, bytes(attached.out), bytes(attached.err), attached.result)
            if machine.machine.wait(BOOT_SECONDS) != 0:
                failures.append(f"{who}: the machine did not switch itself off")
    return failures


def _execute(work: Path, link: Path, scripts: list[_Script]) -> list[str]:
    waiting = RunConfig(args=("/bin/sh", "-c", "read line"), stdin=True)
    with booted(work, link, waiting) as machine, relayed(machine) as guest:
        until(lambda: guest.describe()["started"], BOOT_SECONDS)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = pool.map(lambda script: _execute_one(guest.address, script), scripts)
            return [failure for failures in results for failure in failures]


def _execute_one(address: clients.Address, script: _Script) -> list[str]:
    execution = clients.Execution(script.args, tty=script.tty)
    out, err = _Collector(), _Collector()
    with null() as nowhere:
        stdio = Stdio(nowhere if script.tty else None, out.writer, err.writer)
        try:
            status: object = clients.execute(address, execution, stdio)
        except Exception as error:  # the failure that is told
            status = error
        with closing(out), closing(err):
            pass
    return list(script.check(f"exec of {script.args[-1]!r}", out.data, err.data, status))


class _Collector:
    """A pipe whose other end is read to its end."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._read = bytearray()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while data := os.read(self._reader, 65536):
            self._read += data
        os.close(self._reader)

    def close(self) -> None:
        """End it, and wait for what is in it."""
        os.close(self.writer)
        self._thread.join()

    @property
    def data(self) -> bytes:
        """What came."""
        return bytes(self._read)
