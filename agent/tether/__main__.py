"""tether as PID 1: from the first line of /init to power-off.

Owns the order of a boot and what happens when a step fails: the failure goes to the console and, as
soon as there is a channel, to the host; then the machine is switched off. Never returns as PID 1,
because the kernel panics without it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import time

from agent.hints import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple
from agent.tether import (
    c_linux,
    channel,
    config,
    disks,
    entropy,
    log,
    modules,
    resolve,
    sources,
    syscalls,
    volumes,
    world,
)
from agent.tether.cgroups import CGROUP_ROOT
from agent.tether.clock import Clock
from agent.tether.disk_growth import DiskGrowth
from agent.tether.errors import StartError
from agent.tether.line import guest_line
from agent.tether.messages import MAIN, describe_failure
from agent.tether.name_files import NameFiles
from agent.tether.power_button import PowerButton
from agent.tether.renewals import Renewals
from agent.tether.runs import Runs
from agent.tether.supervisor import Supervisor
from agent.tether.uevents import UeventListener
from agent.wire import ProtocolError

if TYPE_CHECKING:
    from agent.tether.guestinfo import GuestInfo
    from agent.tether.network import MachineNetwork, Report
    from agent.tether.probes import HealthMonitor

PROBE_WORD = "tether.probe"
PROBE_ANSWER = b"saltflat-probe-ok\n"
ROOT = "/newroot"

_KEPT_BYTES = 2 << 20  # more than what is read or written at once

_NO_DEVICES = c_linux.MS_NOSUID | c_linux.MS_NODEV | c_linux.MS_NOEXEC
# The agent's own world. The process gets another one and loses these.
AGENT_MOUNTS: Tuple[Tuple[str, str, int], ...] = (
    ("proc", "/proc", _NO_DEVICES),
    ("sysfs", "/sys", _NO_DEVICES),
    ("devtmpfs", "/dev", c_linux.MS_NOSUID),
    ("cgroup2", CGROUP_ROOT, _NO_DEVICES),
)


def main(at_end: Optional[Callable[[bool], None]] = None) -> None:
    """Run the guest's whole life and switch the machine off.

    `at_end` is called before that, and told whether we have failed.
    """
    failed = False
    started = time.monotonic()
    if os.getpid() != 1:
        raise SystemExit("tether is PID 1 of a guest: it would switch this machine off")
    try:
        _mount_agent_world()
        _keep_standard_descriptors()
        syscalls.reboot(c_linux.LINUX_REBOOT_CMD_CAD_OFF)
        # Three descriptors for each of 256 processes are more than select(2)'s 1024.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        syscalls.keep_freed_memory(_KEPT_BYTES)
        words = _read("/proc/cmdline")
        if PROBE_WORD in words.split():
            _answer_probe()
        else:
            _serve(words, started)
    except StartError as error:
        failed = True
        log.error("{}: {}".format(error.kind, error.message))
    except BaseException as error:  # an exception that leaves PID 1 is a kernel panic
        failed = True
        log.error(log.describe(error))
    finally:
        _power_off(() if at_end is None else (functools.partial(at_end, failed),))


def _serve(command_line: str, started: float) -> None:
    """Be the guest; what goes wrong before there is a channel is told to guestinfo, if any."""
    with UeventListener() as events:
        loader = modules.read_order()
        shared = _open_guestinfo(loader)
        try:
            _serve_host(command_line, started, events, loader, shared)
        except StartError as error:
            if shared is not None:
                shared.report(describe_failure(MAIN, error))
            raise


def _open_guestinfo(loader: modules.ModuleLoader) -> Optional[GuestInfo]:
    """Return VMware's variables, if this is VMware's machine; a guest runs without them as well."""
    if c_linux.PCI_VMWARE_VMCI not in modules.read_pci_ids():
        return None
    from agent.tether import guestinfo  # noqa: PLC0415 - other machines do not pay its memory

    try:
        return guestinfo.open_guestinfo(loader)
    except StartError as error:
        log.error("guestinfo cannot be used: {}".format(error.message))
        return None


def _serve_host(
    command_line: str,
    started: float,
    events: UeventListener,
    loader: modules.ModuleLoader,
    shared: Optional[GuestInfo],
) -> None:
    """Read the config, open the channel, and report whatever happens through it."""
    source = sources.choose_source(command_line, loader, shared)
    document = config.load_document(source.read())
    source.forget()
    connection = config.parse_connection(document)
    entropy.seed(connection.key)
    renewals = Renewals(source, config.parse_renewal(document).epoch)
    rules, fault = config.output_rules(document)
    ids = modules.read_pci_ids()
    drivers = modules.drivers_for(ids)
    if isinstance(connection.channel, config.Vsock):
        drivers += modules.drivers_for(ids, modules.VSOCK_DRIVERS)
    for name in drivers:
        loader.load(name)
    transport = channel.open_transport(connection.channel, events)
    line = guest_line(transport, connection.key, rules)
    line.greet(time.monotonic())
    with Supervisor(
        line,
        linger_seconds=rules.linger_seconds,
        renew=renewals.look if source.renews else None,  # else the guest can sleep
        report=None if shared is None else shared.report,
    ) as supervisor:
        try:
            if fault is not None:
                raise fault
            job = config.parse_job(document)
            report = None if shared is None else shared.report_network
            with contextlib.ExitStack() as stack:
                network = _make_network(job, report)
                if network is not None:
                    stack.enter_context(network)
                _run(job, supervisor, network, loader, events, shared=shared, started=started)
        except StartError as error:
            log.error("{}: {}".format(error.kind, error.message))
            supervisor.report_failure(error)
        except ProtocolError:
            raise  # nobody is left to report to
        except Exception as error:  # a fault of ours is the host's business as well
            log.error(log.describe(error))
            supervisor.report_failure(StartError("internal", log.describe(error)))


def _make_network(job: config.Job, report: Optional[Report]) -> Optional[MachineNetwork]:
    """Return the network that the job asks for, if any; nothing happens to an interface yet."""
    if not job.network.interfaces:
        return None
    from agent.tether.network import MachineNetwork  # noqa: PLC0415 - others do not pay its memory

    return MachineNetwork(job, report=report)


def _run(
    job: config.Job,
    supervisor: Supervisor,
    network: Optional[MachineNetwork],
    loader: modules.ModuleLoader,
    events: UeventListener,
    *,
    shared: Optional[GuestInfo],
    started: float,
) -> None:
    """Start the job's process and supervise it to its end; StartError when it does not start."""
    stop_signal = resolve.resolve_stop_signal(job.image, job.run)
    health = _health(job)
    world.bring_loopback_up()
    files = NameFiles(job.host_name, job.run.host)
    files.open()
    if network is not None:  # first: who asks for a lease does so while the disk is found
        network.open(files, loader, events)
    loader.load("ext4")
    device, superblock = disks.find_root(job.root_uuid, events)
    disks.mount(device, superblock, ROOT, "the root disk")
    volume_mounts = volumes.mount_disks(job.volumes, events)
    if network is not None:
        network.wait()
        supervisor.accompany(network)
    runs = Runs(
        job,
        root=ROOT,
        agent_mounts=tuple(target for _, target, _ in AGENT_MOUNTS),
        volume_mounts=volume_mounts,
        files=files,
    )
    try:
        launch = runs.start()
        log.info("process cloned after {:.0f} ms".format(1000 * (time.monotonic() - started)))
        loader.load("button")  # only now, for it takes some milliseconds
        supervisor.accompany(PowerButton(supervisor.stop))
        growth, clock = DiskGrowth(events), Clock(supervisor.tell)
        supervisor.accompany(growth)
        supervisor.listen("clock", clock.take)
        for look in (clock.compare, growth.look):
            supervisor.listen("look", look)
        if shared is not None:
            from agent.tether.requests import GuestRequests  # noqa: PLC0415 - as guestinfo

            def resumed() -> None:
                clock.compare({})
                growth.look({})

            supervisor.accompany(GuestRequests(shared.tell, stop=supervisor.stop, resumed=resumed))
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

    return functools.partial(probes.HealthMonitor, *found)


def _keep_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are taken: without a console a pipe could get their numbers."""
    descriptor = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while descriptor < 3:
        descriptor = os.dup(descriptor)
    os.close(descriptor)


def _mount_agent_world() -> None:
    os.umask(0o022)
    for kind, target, flags in AGENT_MOUNTS:
        os.makedirs(target, exist_ok=True)
        syscalls.mount(kind, target, kind, flags)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")  # the process's appetite must never cost the agent's life


def _answer_probe() -> None:
    descriptor = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    os.write(descriptor, PROBE_ANSWER)
    os.close(descriptor)


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


def _power_off(first: Sequence[Callable[[], object]] = ()) -> None:
    """Leave the disks clean and switch the machine off, whatever has happened before."""
    for step in (*first, _bury_children, volumes.release_disks, _release_root, os.sync):
        try:
            step()
        except Exception as error:  # the next step is still worth doing
            log.error(log.describe(error))
    syscalls.reboot(c_linux.LINUX_REBOOT_CMD_POWER_OFF)


def _bury_children() -> None:
    """Collect everything that was killed: until then it holds the root disk's mount."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _release_root() -> None:
    if os.path.ismount(ROOT):
        disks.release(ROOT)


if __name__ == "__main__":
    main()
