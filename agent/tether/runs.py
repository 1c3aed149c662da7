"""The main process's runs: each in a control group and namespaces of its own, on the same disk.

Owns what a run has and leaves behind, and what is started beside the present one. When there is
another run is `life`'s matter.
"""

from __future__ import annotations

import os

from agent.bare_tools import partial
from agent.hints import List, Mapping, Optional, Tuple
from agent.tether import config, copy_in, copy_out, process, syscalls
from agent.tether.cgroups import ControlGroup
from agent.tether.name_files import NameFiles
from agent.values import replace

GROUP = "process"


class Runs:
    """Runs of the job's process in the root file system at `root`.

    `agent_mounts` are the agent's own, which the process loses; `volume_mounts` are where it has
    the job's volumes, by serial number; `files` are those of names, which each run gets.
    """

    def __init__(
        self,
        job: config.Job,
        *,
        root: str,
        agent_mounts: Tuple[str, ...],
        volume_mounts: Mapping[str, str],
        files: NameFiles,
    ) -> None:
        self._job = job
        self._root = root
        self._agent_mounts = agent_mounts
        self._volume_mounts = volume_mounts
        self._files = files
        self._count = 0
        self._group: Optional[ControlGroup] = None
        self._directory = -1  # of that group
        self._main = -1  # a descriptor of the main process
        self._left: List[ControlGroup] = []  # of runs before, in which somebody may still die

    def start(self) -> process.Launch:
        """Start the main process, again if there was one. Raises StartError.

        What is left of the run before has been killed.
        """
        self._leave()
        self._count += 1
        name = GROUP if self._count == 1 else "{}-{}".format(GROUP, self._count)
        self._group = ControlGroup(name)
        self._directory = self._group.open()
        launch = process.start(
            self._job,
            root=self._root,
            agent_mounts=self._agent_mounts,
            volume_mounts=self._volume_mounts,
            files=self._files,
            cgroup=self._directory,
        )
        self._main = syscalls.open_process(launch.pid)
        return launch

    def _leave(self) -> None:
        for descriptor in (self._directory, self._main):
            if descriptor >= 0:
                os.close(descriptor)
        self._directory = self._main = -1
        if self._group is not None:
            self._left.append(self._group)
        self._left = [group for group in self._left if not group.remove()]

    def start_beside(self, message: Mapping[str, object]) -> process.Launch:
        """Start what an "exec", "copy-in" or "copy-out" asks for. Raises StartError."""
        job, main, group = self._job, self._main, self._directory
        if message["type"] == "exec":
            return process.start_beside(config.parse_exec(message, job), main, cgroup=group)
        asked = config.parse_copy(message)
        takes = message["type"] == "copy-in"
        copy = partial(copy_out.run, asked.path, follow=asked.follow, shallow=asked.shallow)
        if takes:
            copy = partial(copy_in.run, asked.path)
        copying = replace(job, run=config.RunConfig(stdin=takes))  # with Docker's own rights
        return process.start_beside(copying, main, cgroup=group, builtin=copy)

    def oom_kills(self) -> int:
        """Return how many processes of this run were killed for want of memory."""
        return 0 if self._group is None else self._group.oom_kills()

    def kill(self) -> None:
        """Kill whatever is left of this run."""
        if self._group is not None:
            self._group.kill()
