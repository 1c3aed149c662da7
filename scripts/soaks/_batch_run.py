"""A `saltflat batch` as a process of its own: what it tells, how long it takes, its peak memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT

JsonEvent = dict[str, Any]
_TIMEOUT_SECONDS = 1800
_SAMPLE_SECONDS = 0.05


@dataclass(slots=True)
class BatchRun:
    """What a batch did; `said` are the lines that are no events."""

    exit_code: int = -1
    seconds: float = 0.0
    peak_bytes: int = 0
    events: list[JsonEvent] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    result: JsonEvent = field(default_factory=dict)

    def of(self, kind: str) -> list[JsonEvent]:
        """Return the events of a kind."""
        return [event for event in self.events if event["event"] == kind]

    def links_made(self) -> list[str]:
        """Return the identity of each link that a task made, as often as one did."""
        return [
            link["link_id"]
            for event in self.of("task-finished")
            if event["outcome"]
            for link in event["outcome"]["links"]
            if link["new"] and not link["from_cache"]
        ]


def run_batch(
    file: Path,
    *options: str,
    hear: Callable[[JsonEvent], None] | None = None,
) -> BatchRun:
    """Run a batch to its end, whatever that is; `hear` gets each event as it comes."""
    command = [*SALTFLAT, "--progress", "json", "batch", *options, "--format", "json", str(file)]
    run = BatchRun()
    started = time.monotonic()
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(file.parent / "bytecode"),
        ) as process,
    ):
        late = threading.Timer(_TIMEOUT_SECONDS, process.kill)
        late.start()
        watching = threading.Thread(target=_watch_memory, args=(process, run))
        watching.start()
        assert process.stderr is not None, "it is a pipe"
        for line in process.stderr:
            _take(run, line, hear)
        run.exit_code = process.wait()
        run.seconds = time.monotonic() - started
        late.cancel()
        watching.join()
        out.seek(0)
        run.result = json.loads(out.read() or b"{}")
    return run


def _environment(bytecode: Path) -> dict[str, str]:
    """Return the environment of an installed command: its modules are compiled, but by the first.

    Else a third of what a batch takes that has nothing to do would be reading sources.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}


def _take(run: BatchRun, line: str, hear: Callable[[JsonEvent], None] | None) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or "event" not in event:
        run.said.append(line.rstrip())
        return
    run.events.append(event)
    if hear is not None:
        hear(event)


def _watch_memory(process: subprocess.Popen[str], run: BatchRun) -> None:
    """Note the most that the processes of the tree had together, each at its own peak so far.

    What several of them have in memory is divided among them: the workers are forked from one
    process, and have the program's modules from it.
    """
    while process.poll() is None:
        peaks = (_peak_bytes(pid) for pid in _tree(process.pid))
        run.peak_bytes = max(run.peak_bytes, sum(peaks))
        time.sleep(_SAMPLE_SECONDS)


def _tree(pid: int) -> Sequence[int]:
    found, unseen = [], [pid]
    while unseen:
        pid = unseen.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                unseen += map(int, task.read_text().split())
            except OSError:
                continue  # it has ended
    return found


def _peak_bytes(pid: int) -> int:
    """Return a process's peak (VmHWM), less what is others' of what it shares now (Rss, Pss)."""
    folder = Path(f"/proc/{pid}")
    try:
        status, now = (folder / "status").read_text(), (folder / "smaps_rollup").read_text()
    except OSError:
        return 0  # it has ended
    peak, rss, pss = (_kib(status, "VmHWM"), _kib(now, "Rss"), _kib(now, "Pss"))
    return (peak - (rss - pss)) * 1024


def _kib(text: str, name: str) -> int:
    """Return a line's value; 0 of a process that has no memory any more."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) if found else 0
