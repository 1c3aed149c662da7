"""How many workers this host takes: by its processors, and by its memory as it is now."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A worker's own, and what a chain of some hundred thousand files takes beside it.
JOB_BYTES = 256 << 20
_KIB = 1024


def default_jobs(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> int:
    """Return how many tasks to do side by side if nobody says; at least 1.

    `meminfo` is as in proc(5), `limit` a memory controller's of cgroup v2; either may be missing.
    """
    rooms = [len(os.sched_getaffinity(0))]
    with suppress(OSError, ValueError, IndexError, StopIteration):
        line = next(
            line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")
        )
        rooms.append(int(line.split()[1]) * _KIB // JOB_BYTES)
    with suppress(OSError, ValueError):  # "max": none
        rooms.append(int(limit.read_text()) // JOB_BYTES)
    return max(1, min(rooms))
