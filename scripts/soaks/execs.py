"""Short processes in one machine: every end is told, and nothing is left of any of them.

The host speaks the protocol itself, up to a hundred processes at once: exit codes, signals from
within and from the host, output of all sizes, terminals, stdin, orphans, programs that are missing.
What is left is looked for in the guest, beside the agent: zombies, descriptors, memory.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.tether.host_config import HostConfig
from converter.machine.model import RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, GuestHost, Record, served
from tests.guests.watched import Watcher, watched

COUNT = 10_000
MOST_AT_ONCE = 100
# Of the agent, from a hundred processes to the last of all. Its heap's pages fill up in the first
# few thousand, by half a mebibyte or so, and then stay: a leak of 200 bytes a process shows.
GROWTH_KIB = 2048
_WAVE_SECONDS = 300.0
_SETTLE_SECONDS = 30.0
_MOST_BYTES = 3 * 65536
# Those whose default is to kill; without a core, which would need a disk.
_SIGNALS = (*(signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1), signal.SIGTERM)


@dataclass(frozen=True)
class _Case:
    """A request, and what is to come of it: code, signal, output (None: not looked at), stderr."""

    args: tuple[str, ...]
    code: int
    signal: int | None = None
    out: bytes | None = b""
    err: bytes = b""
    stdin: bytes | None = None
    kill: int | None = None  # the host sends this one when it has started
    request: dict[str, Any] = field(default_factory=dict)

    def faults(self, record: Record) -> Iterator[str]:
        """Yield what is not as it should be."""
        ended = record.messages.get("exited") or record.messages.get("failed") or {}
        got: tuple[object, ...] = (ended.get("code"), ended.get("signal"), record.stderr)
        if got != (self.code, self.signal, self.err):
            yield f"{self.args}: expected {(self.code, self.signal, self.err)}, got {got}"
        if self.out is not None and record.stdout != self.out:
            yield f"{self.args}: expected {len(self.out)} bytes, got {len(record.stdout)}"


def run(count: int, seed: int) -> list[str]:
    """Run `count` processes in one machine; return what was lost or left."""
    rng = random.Random(seed)
    main = RunConfig(
        args=("/bin/sh", "-c", "read line"),
        stdin=True,
        host_config=HostConfig(init=True),  # which buries what execs leave behind
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        with watched(work, disk.build(work), main) as (machine, watcher), served(machine) as host:
            host.wait(lambda: "started" in host.processes[0].messages, BOOT_SECONDS)
            at_first = _left(host, watcher, lambda _left: True)
            failures = _wave(host, [_case(rng) for _ in range(min(count, MOST_AT_ONCE))])
            before = _left(host, watcher, lambda left: left.like(at_first))
            done = min(count, MOST_AT_ONCE)
            while done < count and not failures:
                size = min(count - done, rng.choice((1, 10, MOST_AT_ONCE)))
                failures += _wave(host, [_case(rng) for _ in range(size)])
                done += size
            after = _left(host, watcher, lambda left: left.like(before))
            sys.stderr.write(f"{done} processes: {before} after the first, {after} at the end\n")
            return [*failures, *after.faults(at_first, since=before)]


def _wave(host: GuestHost, cases: list[_Case]) -> list[str]:
    """Start all of them at once; return what was wrong when all have ended."""
    records = []
    for number, case in enumerate(cases, start=1):
        with_stdin = case.stdin is not None
        records.append(host.start(number, args=list(case.args), stdin=with_stdin, **case.request))
        if case.stdin is not None:
            host.write(number, case.stdin, end=True)
    wanted = {number: case.kill for number, case in enumerate(cases, start=1) if case.kill}

    def all_closed() -> bool:
        for number in [n for n in wanted if "started" in records[n - 1].messages]:
            message = {"type": "signal", "process": number, "signal": wanted.pop(number)}
            host.endpoint.control(message)
        return all(record.closed for record in records)

    try:
        host.wait(all_closed, _WAVE_SECONDS)
    except TimeoutError:
        hung = [case.args for case, one in zip(cases, records, strict=True) if not one.closed]
        return [f"no end of {len(hung)} processes after {_WAVE_SECONDS:g} s: {hung[:3]}"]
    for number in range(1, len(cases) + 1):
        del host.processes[number]
    return [
        fault for case, record in zip(cases, records, strict=True) for fault in case.faults(record)
    ]


def _case(rng: random.Random) -> _Case:
    """Choose one."""
    kinds: tuple[Callable[[random.Random], _Case], ...] = (
        *(_writes, _writes, _writes, _is_killed_by_itself, _is_killed_by_the_host),
        *(_has_a_terminal, _reads, _leaves_an_orphan, _cannot_run),
    )
    return rng.choice(kinds)(rng)


def _shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def _writes(rng: random.Random) -> _Case:
    out = rng.choice((0, 1, rng.randrange(5000), rng.randrange(_MOST_BYTES)))
    err = rng.choice((0, 0, rng.randrange(5000)))
    code = rng.randrange(256)
    script = f"head -c {out} /dev/zero; head -c {err} /dev/zero >&2; exit {code}"
    return _Case(_shell(script), code, out=bytes(out), err=bytes(err))


def _is_killed_by_itself(rng: random.Random) -> _Case:
    number = rng.choice(_SIGNALS)
    return _Case(_shell(f"echo last; kill -{number} $$"), 128 + number, number, out=b"last\n")


def _is_killed_by_the_host(rng: random.Random) -> _Case:
    number = rng.choice(_SIGNALS)
    return _Case(("sleep", "1000"), 128 + number, number, kill=number)


def _has_a_terminal(rng: random.Random) -> _Case:
    code = rng.randrange(256)
    script = f"tty >/dev/null && stty size; exit {code}"
    size = {"rows": 24, "cols": 80}
    return _Case(_shell(script), code, out=b"24 80\r\n", request={"tty": True, **size})


def _reads(rng: random.Random) -> _Case:
    data = rng.randbytes(rng.randrange(20_000))
    return _Case(("cat",), 0, out=data, stdin=data)


def _leaves_an_orphan(rng: random.Random) -> _Case:
    seconds = rng.choice(("0", "0.05"))
    script = f"sleep {seconds} >/dev/null 2>&1 & echo left"
    return _Case(_shell(script), 0, out=b"left\n")


def _cannot_run(rng: random.Random) -> _Case:
    return rng.choice(
        (
            _Case(("nope",), 127),
            _Case(("/opt/data",), 126),
            _Case(("true",), 125, request={"user": "ghost"}),
            _Case(("true",), 125, request={"workdir": "/none"}),
        )
    )


@dataclass(frozen=True)
class _Left:
    """What there is in the guest when nothing but its main process runs."""

    zombies: int
    processes: int
    descriptors: int
    rss_kib: int

    def like(self, before: _Left) -> bool:
        """Whether nothing has come to what there was."""
        return (self.zombies, self.processes, self.descriptors) == (
            *(0, before.processes, before.descriptors),
        )

    def faults(self, at_first: _Left, *, since: _Left) -> Iterator[str]:
        """Yield what has been left, and how the agent has grown `since` it was warm."""
        if not self.like(at_first):
            yield f"left in the guest: {self}, expected {at_first}"
        if self.rss_kib > since.rss_kib + GROWTH_KIB:
            yield f"the agent has grown from {since.rss_kib} to {self.rss_kib} KiB"


def _left(host: GuestHost, watcher: Watcher, settled: Callable[[_Left], bool]) -> _Left:
    """Look at the guest until it has settled, for a while: an orphan may live a moment longer."""
    looked = None

    def look() -> bool:
        nonlocal looked
        states = watcher.processes()
        zombies = sum(state == "Z" for state in states.values())
        rss = watcher.memory().rss
        looked = _Left(zombies, len(states) - zombies, watcher.descriptors(), rss)
        return settled(looked)

    with contextlib.suppress(TimeoutError):  # what was seen last is the answer
        host.wait(look, _SETTLE_SECONDS)
    assert looked is not None
    return looked
