"""The control group that the process lives in: made for one run, asked about memory, emptied.

Owns the cgroup2 hierarchy at /sys/fs/cgroup in the agent's world. Counters of a group never go
back, so each run has a fresh one.
"""

from __future__ import annotations

import os

from agent.tether import log

CGROUP_ROOT = "/sys/fs/cgroup"
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


class ControlGroup:
    """A child of the root group with every controller that the kernel has."""

    def __init__(self, name: str, *, root: str = CGROUP_ROOT) -> None:
        for controller in CONTROLLERS:
            try:
                _write(os.path.join(root, "cgroup.subtree_control"), "+" + controller)
            except OSError as error:
                log.info("no {} controller: {}".format(controller, error.strerror))
        self.path = os.path.join(root, name)
        os.mkdir(self.path)

    def open(self) -> int:
        """Return a descriptor of the group, for a clone into it; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel has killed for want of memory."""
        try:
            with open(os.path.join(self.path, "memory.events"), encoding="utf-8") as file:
                return count_oom_kills(file.read())
        except OSError:
            return 0  # the kernel has no memory controller

    def remove(self) -> bool:
        """Remove the group; return whether nobody was left in it, so that it is gone."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # EBUSY: somebody who was killed is not dead yet
        return True

    def kill(self) -> None:
        """Kill whatever is left in the group."""
        try:
            _write(os.path.join(self.path, "cgroup.kill"), "1")
        except OSError as error:
            log.info("cgroup.kill: {}".format(error.strerror))


def count_oom_kills(text: str) -> int:
    """Return the `oom_kill` counter of a memory.events file, 0 when it has none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return 0


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
