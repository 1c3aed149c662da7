"""What an agent that is no init has started, and what that has started: found, and ended.

Owns the reading of /proc for it. A subreaper is given the orphans among its descendants, so none of
them gets out of its tree.
"""

from __future__ import annotations

import os
import time

from agent import bare_signal as signal
from agent.hints import Dict, List
from agent.tether.cgroups import CGROUP_ROOT, count_oom_kills

_PROC = "/proc"
_MOST_ROUNDS = 100  # a tree that still grows after so many has a process that only forks


def kill_descendants() -> None:
    """Kill every descendant of this process; whoever waits for children collects them."""
    for _ in range(_MOST_ROUNDS):
        living = [pid for pid in _below(os.getpid(), _parents()) if not _is_zombie(pid)]
        if not living:
            return
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was faster
        time.sleep(0.001)  # a signal takes effect when its process runs: that is not at once


def oom_kills() -> int:
    """Return how many processes of this one's control group were killed for want of memory."""
    for line in _read("/proc/self/cgroup").splitlines():
        number, _, path = line.partition("::")
        if number == "0":
            return count_oom_kills(_read(CGROUP_ROOT + path + "/memory.events"))
    return 0


def _below(ancestor: int, parents: Dict[int, int]) -> List[int]:
    found = {ancestor}
    grows = True
    while grows:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grows = bool(more)
    return sorted(found - {ancestor})


def _parents() -> Dict[int, int]:
    return {
        int(name): int(fields[1])
        for name in os.listdir(_PROC)
        if name.isdigit()
        for fields in [_stat_fields(int(name))]
        if fields
    }


def _is_zombie(pid: int) -> bool:
    fields = _stat_fields(pid)
    return not fields or fields[0] in ("Z", "X")


def _stat_fields(pid: int) -> List[str]:
    """Return /proc/PID/stat from the state on, proc(5); nothing when it is gone."""
    # The name before may hold anything, so the last bracket counts.
    return _read("{}/{}/stat".format(_PROC, pid)).rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
