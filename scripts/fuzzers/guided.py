"""Fuzz one target with atheris, guided by coverage. Owns the process that does it.

    python -m scripts.fuzzers.guided TARGET JOB [LIBFUZZER_OPTION...]

JOB is a JSON document (see `Job`). A find does not end the run: it is saved and the run goes on, so
that an hour is an hour. Only what kills the interpreter ends it early; the caller starts another.

A merge is libFuzzer's, which starts itself again for it by a command without arguments of its own:
that is the program `merge_by`, which runs this module with whatever options it is given.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

from scripts.fuzzers.finds import save_find
from scripts.fuzzers.job import Job
from scripts.fuzzers.judge import judge, limit_memory
from scripts.fuzzers.targets import MAX_INPUT_BYTES, load_target

_REPORT_EVERY = 256  # executions
_RSS_LIMIT_MB = 2048
_NEVER_IN_SECONDS = 10**7  # libFuzzer's limit is wall time, which is wrong for a stopped process


class _Run:
    """Counts executions and CPU time, and ends the process when it has had its share."""

    def __init__(self, one_input: Callable[[bytes], None], job: Job) -> None:
        self._one_input = one_input
        self._job = job
        self._executions = 0

    def __call__(self, data: bytes) -> None:
        find = judge(self._one_input, data)
        self._executions += 1
        if find is not None:
            save_find(Path(self._job.finds), find)
        if not self._executions % _REPORT_EVERY or find is not None:
            self._report()
        if self._job.count and self._executions >= self._job.count:
            self._end()

    def _report(self) -> None:
        times = os.times()
        seconds = times.user + times.system
        line = {"executions": self._executions, "cpu_seconds": round(seconds, 2)}
        Path(self._job.report).write_text(json.dumps(line))
        if self._job.cpu_seconds and seconds >= self._job.cpu_seconds:
            self._end()

    def _end(self) -> None:
        times = os.times()
        line = {
            "executions": self._executions,
            "cpu_seconds": round(times.user + times.system, 2),
        }
        Path(self._job.report).write_text(json.dumps({**line, "ended": True}))
        sys.stderr.flush()
        os._exit(0)  # libFuzzer never returns


def main(name: str, job: Job, options: list[str]) -> None:
    """Fuzz the target `name`, or with `options` do what libFuzzer says; does not return."""
    with atheris.instrument_imports(include=["converter"]):
        target = load_target(name)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        choose = Random(seed)
        if choose.randrange(5) == 0:
            return bytes(atheris.Mutate(data, max_size))
        return target.mutate(data, choose)[:max_size]

    limit_memory()
    arguments = [
        f"-seed={job.seed % (1 << 32) or 1}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={_NEVER_IN_SECONDS}",
        f"-report_slow_units={_NEVER_IN_SECONDS}",
        f"-rss_limit_mb={_RSS_LIMIT_MB}",
        f"-artifact_prefix={job.finds}/killed-",
        *(["-merge=1"] if job.merge_by else []),
        *job.corpora,
    ]
    program = job.merge_by or sys.argv[0]
    atheris.Setup(
        [program, *(options or arguments)], _Run(target.one_input, job), custom_mutator=mutator
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Job.read(Path(sys.argv[2])), sys.argv[3:])
