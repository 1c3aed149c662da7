"""How many processes this host takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converter.batch.jobs import JOB_BYTES, default_jobs


@pytest.mark.parametrize(
    ("available", "limit", "jobs"),
    [
        (100, "max", 8),  # as many as there are processors
        (3, "max", 3),
        (100, f"{2 * JOB_BYTES + 1}", 2),
        (0, "max", 1),
        (None, None, 8),
    ],
)
def test_there_are_as_many_as_processors_and_memory_are_for(
    available: int | None,
    limit: str | None,
    jobs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    meminfo, most = tmp_path / "meminfo", tmp_path / "memory.max"
    if available is not None:
        meminfo.write_text(f"MemTotal: 9 kB\nMemAvailable: {available * JOB_BYTES // 1024} kB\n")
    if limit is not None:
        most.write_text(f"{limit}\n")
    assert default_jobs(meminfo, most) == jobs
