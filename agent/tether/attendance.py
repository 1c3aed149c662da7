"""A VMware hypervisor's guest: what it says, is asked, and does when it is asked.

Owns putting these together, on VMware's machines alone: `appearance`, `tclo`, `requests`. The
supervisor, the clock and the disks know nothing of it.
"""

from __future__ import annotations

import os

from agent.hints import TYPE_CHECKING, Mapping
from agent.tether.appearance import Appearance
from agent.tether.backdoor import read_host_time
from agent.tether.guestinfo import Hypervisor
from agent.tether.os_name import describe_system, read_os_release
from agent.tether.requests import GuestRequests
from agent.tether.socket_rules import build_program
from agent.tether.tclo import Tclo
from agent.values import replace

if TYPE_CHECKING:
    from agent.tether.clock import Clock
    from agent.tether.config import Job
    from agent.tether.disk_growth import DiskGrowth
    from agent.tether.supervisor import Supervisor


class Attendance:
    """What a hypervisor gets of a machine with this name; `root` is where its disk is mounted."""

    def __init__(self, hypervisor: Hypervisor, *, host_name: str, root: str) -> None:
        self._hypervisor = hypervisor
        self._root = root
        self._appearance = Appearance(hypervisor.guestinfo.call, host_name=host_name)

    def report_network(self, message: Mapping[str, object]) -> None:
        """Tell the addresses, in guestinfo and for vCenter's eyes. Never fails."""
        self._hypervisor.guestinfo.report_network(message)
        self._appearance.take_network(message)

    def confine(self, job: Job) -> Job:
        """Return the job with its processes kept from the hypervisor, unless they are not to be."""
        host = job.run.host
        if host.privileged or host.open_hypervisor:
            return job
        return replace(job, call_filter=build_program())

    def begin(self, supervisor: Supervisor, clock: Clock, growth: DiskGrowth) -> GuestRequests:
        """Return the companion that answers the hypervisor. The root disk is mounted by now."""
        release = read_os_release(self._root)
        self._appearance.take_system(*describe_system(release, os.uname().release))

        def stop() -> bool:
            supervisor.stop()
            return True  # without a process the machine is about to be switched off

        tclo = Tclo(
            self._hypervisor.guestinfo.call,
            self._appearance,
            stop=stop,
            restart=supervisor.restart,
            resumed=lambda: self.go_on(clock, growth),
        )
        return GuestRequests(self._hypervisor.open_line, tclo, self._appearance)

    def go_on(self, clock: Clock, growth: DiskGrowth) -> None:
        """Look at what may be another one since the machine stood still: the time, the disks.

        The time is the hypervisor's, where that is to be had; else the host is asked.
        """
        ports = self._hypervisor.find_backdoor()
        there = None if ports is None else read_host_time(ports)
        if there is None:
            clock.compare({})
        else:
            clock.step(there)
        growth.look({})
