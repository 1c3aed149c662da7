"""tether as PID 1: from the first line of /init to power-off.

Owns the first steps and the last ones: what fails in between is on the console at least, and the
machine is switched off. Never returns as PID 1, because the kernel panics without it.
"""

from __future__ import annotations

import os
import time

from agent.bare_tools import partial
from agent.hints import Callable, Optional, Sequence, Tuple
from agent.tether import c_linux, disks, log, syscalls
from agent.tether.errors import StartError

PROBE_WORD = "tether.probe"
PROBE_ANSWER = b"saltflat-probe-ok\n"
ROOT = "/newroot"

_NO_DEVICES = c_linux.MS_NOSUID | c_linux.MS_NODEV | c_linux.MS_NOEXEC
# The agent's own world. The process gets another one and loses these.
AGENT_MOUNTS: Tuple[Tuple[str, str, int], ...] = (
    ("proc", "/proc", _NO_DEVICES),
    ("sysfs", "/sys", _NO_DEVICES),
    ("devtmpfs", "/dev", c_linux.MS_NOSUID),
    ("cgroup2", "/sys/fs/cgroup", _NO_DEVICES),
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
        _power_off(() if at_end is None else (partial(at_end, failed),))


def _serve(command_line: str, started: float) -> None:
    """Be the guest. Where drivers are built in, the disk answers while the agent is imported."""
    disks.scan_scsi(disks.USUAL_PLACE)
    from agent.tether import contact  # noqa: PLC0415 - only now, see above

    mounts = tuple(target for _, target, _ in AGENT_MOUNTS)
    contact.serve(command_line, root=ROOT, mounts=mounts, started=started)


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
    with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("-1000")  # the process's appetite must never cost the agent's life


def _answer_probe() -> None:
    descriptor = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    os.write(descriptor, PROBE_ANSWER)
    os.close(descriptor)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _power_off(first: Sequence[Callable[[], object]] = ()) -> None:
    """Leave the disks clean and switch the machine off, whatever has happened before."""
    for step in (*first, _bury_children, _release_volumes, _release_root, os.sync):
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


def _release_volumes() -> None:
    from agent.tether import volumes  # noqa: PLC0415 - if there are any it is there already

    volumes.release_disks()


def _release_root() -> None:
    if os.path.ismount(ROOT):
        disks.release(ROOT)


if __name__ == "__main__":
    main()
