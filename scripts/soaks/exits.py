"""Processes that exit at once, by exec and by run: all of their output, then the right status.

Many execs share a machine, a dozen at a time; every hundredth process is a machine's own.
"""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

from converter.machine.model import RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, Record, booted, served

COUNT = 1000
_AT_ONCE = 12
_RUNS_PER = 100  # one run for so many
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
            failures += _run_alone(work, link, rng)
        failures += _execute(work, link, rng, count - runs)
    return failures


def _script(rng: random.Random) -> tuple[list[str], int, int, int]:
    """Return a command, the sizes of its stdout and stderr, and its code."""
    out = rng.choice((0, 1, rng.randrange(5000), rng.randrange(_MOST_BYTES)))
    err = rng.choice((0, 0, rng.randrange(5000)))
    code = rng.randrange(256)
    script = f"head -c {out} /dev/zero; head -c {err} /dev/zero >&2; exit {code}"
    return ["/bin/sh", "-c", script], out, err, code


def _run_alone(work: Path, link: Path, rng: random.Random) -> list[str]:
    arguments, out, err, code = _script(rng)
    with (
        booted(work, link, RunConfig(args=tuple(arguments))) as machine,
        served(machine) as host,
    ):
        record = host.processes[0]
        host.wait(lambda: record.code is not None, BOOT_SECONDS)
    return _check("a run", record, out, err, code)


def _execute(work: Path, link: Path, rng: random.Random, count: int) -> list[str]:
    failures = []
    waiting = RunConfig(args=("/bin/sh", "-c", "read line"), stdin=True)
    with booted(work, link, waiting) as machine, served(machine) as host:
        host.wait(lambda: "started" in host.processes[0].messages, BOOT_SECONDS)
        for first in range(1, count + 1, _AT_ONCE):
            begun = []
            for number in range(first, min(first + _AT_ONCE, count + 1)):
                arguments, *expected = _script(rng)
                tty = rng.random() < 0.1 and expected[1] == 0
                record = host.start(number, args=arguments, tty=tty)
                begun.append((number, record, expected))
            host.wait(functools.partial(_all_closed, begun), 120)
            for number, record, expected in begun:
                failures += _check(f"exec {number}", record, *expected)
                del host.processes[number]
    return failures


def _all_closed(begun: list[tuple[int, Record, list[int]]]) -> bool:
    return all(record.closed for _, record, _ in begun)


def _check(who: str, record: Record, out: int, err: int, code: int) -> list[str]:
    if (record.stdout, record.stderr, record.code) != (bytes(out), bytes(err), code):
        sizes = f"{len(record.stdout)} and {len(record.stderr)} bytes, code {record.code}"
        return [f"{who}: expected {out} and {err} bytes, code {code}; got {sizes}"]
    if record.order[-1] != "exited":
        return [f"{who}: the status came before the end of its output: {record.order}"]
    return []
