"""The first program of a debug image: a shell beside tether, on a serial port of its own.

Owns what `tether.debug` on the kernel's command line means; without that word it starts tether and
nothing else. No other boot image holds this module, or the busybox that it starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import termios

from agent.hints import Dict, List, Optional
from agent.tether import __main__ as tether
from agent.tether import c_linux, log, syscalls

# tether.debug=ttyS2 is a shell beside tether, tether.debug=ttyS2,start one before it as well.
WORD = re.compile(r"(?:^|\s)tether\.debug=(ttyS([0-9]))(,start)?(?=\s|$)")
BUSYBOX = "/usr/lib/saltflat/debug/busybox"

# A file system of its own: tether deletes what is in the initramfs once the process runs.
_PLACE = "/debug"
_PROGRAM = _PLACE + "/busybox"
_PROGRAMS = _PLACE + "/bin"
_SERIAL_MAJOR, _SERIAL_MINOR = 4, 64  # Linux, Documentation/admin-guide/devices.txt
_ENVIRONMENT = {"PATH": _PROGRAMS, "HOME": "/", "TERM": "vt100", "PS1": "tether-debug# "}
_COPY_BYTES = 1 << 20


def main() -> None:
    """Be PID 1: start the shells that are asked for, and tether. Does not return."""
    shell: List[int] = []

    def at_end(failed: bool) -> None:
        if failed and shell:
            log.error("the machine goes off when the debug shell is left")
            _wait(shell[0])
        # What was started in the shell holds mounts, and PID 1 would wait for it.
        with contextlib.suppress(ProcessLookupError):  # nothing was
            os.kill(-1, signal.SIGKILL)

    try:
        word = _asked()
        if word is not None:
            terminal = _prepare(word[1], int(word[2]))
            if word[3]:
                _before(terminal)
            shell.append(_start(terminal))
    except Exception as error:  # tether is still worth starting
        log.error(log.describe(error))
    tether.main(at_end if shell else None)


def _asked() -> Optional[re.Match[str]]:
    """Return the word of the kernel's command line, None when there is none."""
    syscalls.mount("proc", "/proc", "proc", 0)
    try:
        with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
            return WORD.search(file.read())
    finally:
        syscalls.unmount("/proc")


def _prepare(name: str, number: int) -> str:
    """Copy busybox to where it stays, and make the terminal's node; return its path."""
    os.mkdir(_PLACE)
    syscalls.mount("tmpfs", _PLACE, "tmpfs", 0)
    descriptor = os.open(_PROGRAM, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755)
    with open(BUSYBOX, "rb") as source, open(descriptor, "wb") as target:
        while True:
            data = source.read(_COPY_BYTES)
            if not data:
                break
            target.write(data)
    os.mkdir(_PROGRAMS)
    # By itself: tether's /dev is not there yet.
    terminal = "{}/{}".format(_PLACE, name)
    os.mknod(terminal, 0o020600, os.makedev(_SERIAL_MAJOR, _SERIAL_MINOR + number))
    installer = os.fork()
    if not installer:
        _execute([_PROGRAM, "--install", "-s", _PROGRAMS], {})
    _wait(installer)
    return terminal


def _before(terminal: str) -> None:
    """Have a shell to its end, with what a person expects to be mounted."""
    mounted = []
    for kind, target, flags in tether.AGENT_MOUNTS:
        os.makedirs(target, exist_ok=True)
        syscalls.mount(kind, target, kind, flags)
        mounted.append(target)
    _wait(_start(terminal))
    for target in reversed(mounted):  # tether mounts them itself
        syscalls.unmount(target, c_linux.MNT_DETACH)


def _start(terminal: str) -> int:
    """Start a shell that has the terminal; return its process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        descriptor = os.open(terminal, os.O_RDWR | os.O_NONBLOCK)  # there is no carrier to wait for
        os.set_blocking(descriptor, True)
        fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(descriptor, number)
        _execute([_PROGRAM, "sh"], _ENVIRONMENT)
    except BaseException as error:  # this is a copy of PID 1: it must not go on as another one
        log.error(log.describe(error))
    os._exit(1)


def _execute(arguments: List[str], environment: Dict[str, str]) -> None:
    os.execve(arguments[0], arguments, environment)  # noqa: S606 - there is no other shell


def _wait(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # it has ended, and tether has buried it
        os.waitpid(pid, 0)
