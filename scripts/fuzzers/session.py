"""A run of the guided fuzzer from outside: its process, its restarts, its account. Merges, too."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from scripts.fuzzers.finds import content_name
from scripts.fuzzers.job import Job
from scripts.fuzzers.targets import MAX_INPUT_BYTES, ROOT, corpus_folder, load_target

_MODULE = "scripts.fuzzers.guided"


def fuzz(
    name: str,
    *,
    scratch: Path,
    corpus: Path | None,
    finds: Path,
    seed: int,
    cpu_seconds: float,
    count: int,
) -> dict[str, object]:
    """Fuzz until `cpu_seconds` or `count` executions are used up; say what came of it.

    A process that dies is a find; another one goes on with what is left.
    """
    corpora = [corpus or scratch / "corpus", scratch / "seeds", corpus_folder(name)]
    finds.mkdir(parents=True, exist_ok=True)
    for folder in corpora:
        folder.mkdir(parents=True, exist_ok=True)
    for data in load_target(name).seeds():
        (scratch / "seeds" / content_name(data)).write_bytes(data)
    before = {path.name for path in finds.iterdir()}
    executions, used, deaths = 0, 0.0, 0
    while (count and executions < count) or (cpu_seconds and used < cpu_seconds):
        report = scratch / "report"
        report.unlink(missing_ok=True)
        job = Job(
            corpora=[os.fspath(folder) for folder in corpora],
            finds=os.fspath(finds),
            report=os.fspath(report),
            seed=seed + deaths,
            cpu_seconds=max(0.0, cpu_seconds - used),
            count=max(0, count - executions),
        )
        code = _run(name, job, scratch)
        done = json.loads(report.read_text()) if report.exists() else {}
        executions += done.get("executions", 0)
        used += done.get("cpu_seconds", 0.0)
        if not done.get("ended"):
            deaths += 1
            _keep_death(finds, code, scratch / "log")
            if not done:  # it died at once: the next one would, too
                break
    found = sorted({path.name for path in finds.iterdir()} - before)
    return {
        "target": name,
        "seed": seed,
        "executions": executions,
        "cpu_seconds": round(used, 1),
        "finds": [file for file in found if not file.endswith(".txt")],
        "corpus": len(list(corpora[0].iterdir())),
    }


def _run(name: str, job: Job, scratch: Path) -> int:
    job.write(scratch / "job.json")
    command = [sys.executable, "-m", _MODULE, name, os.fspath(scratch / "job.json")]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": os.fspath(scratch)}
    with open(scratch / "log", "wb") as log:
        return subprocess.run(  # its end is its own: it counts executions and CPU time
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False
        ).returncode


def _keep_death(finds: Path, code: int, log: Path) -> None:
    how = signal.Signals(-code).name if code < 0 else f"code-{code}"
    tail = log.read_bytes()[-20000:]
    (finds / f"death-{how}-{content_name(tail)}.log").write_bytes(tail)


def merge(name: str, source: Path, corpus: Path, scratch: Path) -> dict[str, object]:
    """Add to `corpus` those inputs of `source` that reach something that no input there does."""
    corpus.mkdir(parents=True, exist_ok=True)
    target = scratch / "merged"
    target.mkdir()
    for path in corpus.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    before = len(list(target.iterdir()))
    job = Job(
        corpora=[os.fspath(target), os.fspath(source)],
        finds=os.fspath(scratch),
        report=os.fspath(scratch / "report"),
        seed=1,
        merge_by=os.fspath(scratch / "again"),
    )
    again = [sys.executable, "-m", _MODULE, name, os.fspath(scratch / "job.json")]
    Path(job.merge_by).write_text(f'#!/bin/sh\nexec {shlex.join(again)} "$@"\n')
    Path(job.merge_by).chmod(0o700)
    if _run(name, job, scratch):
        raise RuntimeError((scratch / "log").read_text(errors="replace")[-2000:])
    for path in target.iterdir():
        data = path.read_bytes()
        assert len(data) <= MAX_INPUT_BYTES
        (corpus / content_name(data)).write_bytes(data)
    return {"target": name, "before": before, "after": len(list(corpus.iterdir()))}


def keep(name: str, source: Path) -> int:
    """Choose the kept corpus anew in a process of its own (see `keep`); return its exit code."""
    command = [sys.executable, "-m", "scripts.fuzzers.keep", name, os.fspath(source.absolute())]
    return subprocess.run(command, cwd=ROOT, check=False).returncode
