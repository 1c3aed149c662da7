"""A process of this host, named so that it cannot be mistaken for another. Owns no process.

A pid alone may belong to somebody else by now: the mark adds when the process began and in which
boot of the host, which Linux repeats never.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 22  # of /proc/PID/stat, proc_pid_stat(5); counted from 1
_STATE_FIELD = 3
_ENDED = frozenset("ZX")  # a zombie has ended, though its parent has not looked


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process: its id, its beginning in clock ticks since the host's boot, and that boot's id."""

    pid: int
    start_ticks: int
    boot_id: str

    def __str__(self) -> str:
        return f"{self.pid} {self.start_ticks} {self.boot_id}"

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """Read what `str` gives; None for anything else, as of a file half written."""
        parts = text.split()
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return cls(int(parts[0]), int(parts[1]), parts[2])

    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self.boot_id == host_boot_id() and _start_ticks(self.pid) == self.start_ticks

    def open(self) -> int | None:
        """Return a descriptor of the process that is readable when it ends; None: it has ended."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            if self.is_alive():
                return descriptor
            os.close(descriptor)
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, and never another one; nothing when it has ended."""
        descriptor = self.open()
        if descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait for its end at most so long; return whether it has ended."""
        descriptor = self.open()
        if descriptor is None:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(descriptor)


def host_boot_id() -> str:
    """Return the id of the host's present boot."""
    return _BOOT_ID.read_text("ascii").strip()


def own_mark() -> ProcessMark:
    """Return the mark of the process that asks."""
    ticks = _start_ticks(os.getpid())
    assert ticks is not None, "who asks runs"
    return ProcessMark(os.getpid(), ticks, host_boot_id())


def _start_ticks(pid: int) -> int | None:
    """Return when a running process began; None for one that has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    if fields[_STATE_FIELD - 3] in _ENDED:
        return None
    return int(fields[_START_FIELD - 3])
