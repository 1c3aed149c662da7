"""What the machine is for: its network, its root disk, the image's process, to the process's end.

Owns the order of these, once there is a line to the host, and what happens when one of them fails:
the host is told. PID 1's own beginning and end are `__main__`'s.
"""

from __future__ import annotations

import gc
import os
import resource
import time

from agent.bare_tools import ExitStack, partial
from agent.hints import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence
from agent.tether import config, disks, log, resolve, syscalls, volumes, world
from agent.tether.clock import Clock
from agent.tether.disk_growth import DiskGrowth
from agent.tether.errors import StartError
from agent.tether.line import Line
from agent.tether.name_files import NameFiles
from agent.tether.power_button import PowerButton
from agent.tether.runs import Runs
from agent.tether.supervisor import Supervisor
from agent.wire import ProtocolError

if TYPE_CHECKING:
    from agent.tether.attendance import Attendance
    from agent.tether.contact import Machine
    from agent.tether.guestinfo import Hypervisor
    from agent.tether.network import MachineNetwork, Report
    from agent.tether.probes import HealthMonitor

_KEPT_BYTES = 2 << 20  # more than what is read or written at once


def serve(
    machine: Machine,
    line: Line,
    document: Mapping[str, object],
    *,
    fault: Optional[StartError],
    linger_seconds: float,
    renew: Optional[Callable[[], Optional[bytes]]],
    hypervisor: Optional[Hypervisor],
) -> None:
    """Do the job in the document and report over the line, on which the host is greeted.

    `fault` is what is wrong with the document already. The rest is for the Supervisor.
    """
    gc.freeze()  # what is there now stays for good
    gc.enable()
    # Three descriptors for each of 256 processes are more than select(2)'s 1024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    syscalls.keep_freed_memory(_KEPT_BYTES)
    with Supervisor(
        line,
        linger_seconds=linger_seconds,
        renew=renew,
        report=None if hypervisor is None else hypervisor.guestinfo.report,
    ) as supervisor:
        try:
            if fault is not None:
                raise fault
            job = config.parse_job(document)
            attendance = _attend(job, machine, hypervisor)
            with ExitStack() as stack:
                report = None if attendance is None else attendance.report_network
                network = _make_network(job, report)
                if network is not None:
                    stack.enter_context(network)
                _run(job, machine, supervisor, network, attendance)
        except StartError as error:
            log.error("{}: {}".format(error.kind, error.message))
            supervisor.report_failure(error)
        except ProtocolError:
            raise  # nobody is left to report to
        except Exception as error:  # a fault of ours is the host's business as well
            log.error(log.describe(error))
            supervisor.report_failure(StartError("internal", log.describe(error)))


def _attend(
    job: config.Job, machine: Machine, hypervisor: Optional[Hypervisor]
) -> Optional[Attendance]:
    """Return what the machine's hypervisor gets beside guestinfo, if it is VMware's."""
    if hypervisor is None:
        return None
    from agent.tether.attendance import Attendance  # noqa: PLC0415 - others do not pay its memory

    return Attendance(hypervisor, host_name=job.host_name, root=machine.root)


def _make_network(job: config.Job, report: Optional[Report]) -> Optional[MachineNetwork]:
    """Return the network that the job asks for, if any; nothing happens to an interface yet."""
    if not job.network.interfaces:
        return None
    from agent.tether.network import MachineNetwork  # noqa: PLC0415 - others do not pay its memory

    return MachineNetwork(job, report=report)


def _run(
    job: config.Job,
    machine: Machine,
    supervisor: Supervisor,
    network: Optional[MachineNetwork],
    attendance: Optional[Attendance],
) -> None:
    """Start the job's process and supervise it to its end; StartError when it does not start."""
    loader, events = machine.loader, machine.events
    stop_signal = resolve.resolve_stop_signal(job.image, job.run)
    health = _health(job)
    world.bring_loopback_up()
    files = NameFiles(job.host_name, job.run.host)
    files.open()
    if network is not None:  # first: who asks for a lease does so while the disk is found
        network.open(files, loader, events)
    loader.load("ext4")
    device, superblock = disks.find_root(job.root_uuid, events)
    disks.mount(device, superblock, machine.root, "the root disk")
    volume_mounts = volumes.mount_disks(job.volumes, events)
    if network is not None:
        network.wait()
        supervisor.accompany(network)
    if attendance is not None:
        job = attendance.confine(job)
    runs = Runs(
        job,
        root=machine.root,
        agent_mounts=machine.mounts,
        volume_mounts=volume_mounts,
        files=files,
    )
    try:
        launch = runs.start()
        log.info(
            "process cloned after {:.0f} ms".format(1000 * (time.monotonic() - machine.started))
        )
        loader.load("button")  # only now, for it takes some milliseconds
        supervisor.accompany(PowerButton(supervisor.stop))
        growth, clock = DiskGrowth(events), Clock(supervisor.tell)
        supervisor.accompany(growth)
        supervisor.listen("clock", clock.take)
        for look in (clock.compare, growth.look):
            supervisor.listen("look", look)
        if attendance is not None:
            supervisor.accompany(attendance.begin(supervisor, clock, growth))
        _remove_initramfs(() if network is None else network.needed_files())
        supervisor.supervise(
            launch,
            stop_signal=stop_signal,
            stop_seconds=job.run.host.stop_seconds,
            oom_kills=runs.oom_kills,
            start=runs.start_beside,
            end=runs.kill,
            policy=job.run.host.restart,
            again=runs.start,
            health=health,
        )
    finally:
        runs.kill()
        log.info("agent's memory: " + ", ".join(_memory_figures()))


def _health(job: config.Job) -> Optional[Callable[..., HealthMonitor]]:
    """Return what makes the job's health checks, None when there are none to make."""
    found = resolve.resolve_health(job.image, job.run)
    if found is None:
        return None
    from agent.tether import probes  # noqa: PLC0415 - others do not pay its memory

    return partial(probes.HealthMonitor, *found)


def _remove_initramfs(needed: Sequence[str]) -> None:
    """Delete the files that we were started from: memory back, and nothing to find for an escape.

    All but those `needed` of its programs.
    Only on the initramfs itself; everything mounted on it stays. Nothing may be imported any more.
    """
    if not _read("/proc/self/mounts").startswith("rootfs / "):
        return
    device = os.stat("/").st_dev
    for folder, folders, files in os.walk("/", topdown=True):
        folders[:] = [
            name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device
        ]
        for name in files:
            path = os.path.join(folder, name)
            if os.lstat(path).st_dev == device and path not in needed:
                os.unlink(path)


def _memory_figures() -> List[str]:
    return [
        " ".join(line.split())
        for line in _read("/proc/self/status").splitlines()
        if line.startswith(("VmHWM", "VmRSS"))
    ]


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
