"""QEMU with a clock that counts instructions, and when the guest says something, by that clock.

Owns the timing. `-icount shift=0,sleep=off` lets an instruction take a nanosecond and skips time in
which the guest waits, so that the same code takes the same time on any host and under any load. The
clock is read where the guest cannot touch it, in the chipset: the ACPI power management timer.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.machine.process import QemuProcess

ICOUNT = ("-icount", "shift=0,sleep=off")

# ACPI 6.4, 4.8.3.3. Where it is on a q35: SeaBIOS, PORT_ACPI_PM_BASE.
_PM_TIMER = "i /wx 0x608"
_PM_TIMER_HZ = 3_579_545
_PM_TIMER_WRAPS = 1 << 24

_CONNECT_SECONDS = 20.0
_MARK_SECONDS = 120.0


class VirtualMachine:
    """A machine that stands still until `run`; `sockets` are the ends that it may speak on."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        qmp = folder / "qmp"
        self._process = QemuProcess(
            [*arguments, *ICOUNT, "-S", "-qmp", f"unix:{qmp},server=on,wait=off"],
            folder,
            temporary=False,
        )
        self._monitor = connected(qmp).makefile("rwb")
        self._monitor.readline()  # its greeting
        self._execute("qmp_capabilities")

    def __enter__(self) -> VirtualMachine:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.__exit__(*exception)

    def run(self, ends: Mapping[str, socket.socket], marks: Sequence[str]) -> dict[str, float]:
        """Let it run until all `marks` have come; return mark -> seconds since its start.

        A mark is "END:X", the first byte X on that one of the `ends`, or "END" for any byte.
        """
        found: dict[str, float] = {}
        names = {end: name for name, end in ends.items()}
        self._execute("cont")
        deadline = time.monotonic() + _MARK_SECONDS
        while set(marks) - set(found):
            ready, _, _ = select.select(list(names), [], [], 1.0)
            now = self._clock() if ready else 0.0
            for end in ready:
                data = end.recv(4096)
                for mark in marks:
                    name, _, byte = mark.partition(":")
                    if name == names[end] and byte.encode() in data and data:
                        found.setdefault(mark, now)
            if time.monotonic() > deadline:
                raise self._silent(f"only {sorted(found)} of {marks} came")
        return found

    def _silent(self, what: str) -> RuntimeError:
        return RuntimeError(f"{what}:\n{self._process.console()}{self._process.log()}")

    def _clock(self) -> float:
        """Return the virtual seconds; the timer wraps after 4.7 of them."""
        answer = self._execute("human-monitor-command", **{"command-line": _PM_TIMER})
        value = int(str(answer).split("=")[1], 16) % _PM_TIMER_WRAPS
        return value / _PM_TIMER_HZ

    def _execute(self, command: str, **arguments: object) -> object:
        request = {"execute": command, "arguments": arguments}
        while True:
            try:
                if request:
                    self._monitor.write(json.dumps(request).encode() + b"\n")
                    self._monitor.flush()
                    request = {}
                answer = json.loads(self._monitor.readline())
            except (OSError, ValueError) as error:
                raise self._silent(f"QEMU ended before {command}") from error
            if "error" in answer:
                raise RuntimeError(f"QEMU refuses {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]


def connected(path: Path) -> socket.socket:
    """Return a connection to a socket that QEMU is about to make."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(str(path))
            return end
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
