"""A booted guest with somebody beside the agent: a process that reads /proc for the host.

Owns that process, the line to it (ttyS2) and what can be asked. It is forked before the agent is
imported and only waits, so what it sees of the agent is what there is without it.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.machine.model import RunConfig
from tests.guests import own_init
from tests.guests.host import BOOT_SECONDS, Booted, booted

_AGENT = "/proc/1"

# The boot image's own /init, with the watcher in front of it. It answers each path with the file's
# text, or the names in a folder, as one line of JSON.
_WATCHER = b"""
import json, os, stat, termios  # which the agent imports as well

if not os.fork():
    os.mknod("/watched", stat.S_IFCHR | 0o600, os.makedev(4, 66))
    line = os.open("/watched", os.O_RDWR | os.O_NOCTTY)
    control = termios.tcgetattr(line)[6]
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(line, termios.TCSANOW, [0, 0, flags, 0, 15, 15, control])
    said = os.fdopen(os.dup(line), "w", encoding="ascii")
    for path in os.fdopen(line, encoding="ascii"):
        path = path[:-1]
        try:
            if os.path.isdir(path):
                answer = os.listdir(path)
            else:
                with open(path, encoding="utf-8", errors="replace") as file:
                    answer = file.read()
        except OSError as error:
            answer = error.errno
        said.write(json.dumps(answer) + "\\n")
        said.flush()
    os._exit(0)
"""


@dataclass(frozen=True)
class Memory:
    """A process's memory in KiB, as /proc/PID/smaps_rollup has it."""

    rss: int
    pss: int
    anonymous: int


class Watcher:
    """What the process beside the agent is asked for."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def read(self, path: str) -> str:
        """Return a file of the agent's world, "" when it is gone."""
        answer = self._ask(path)
        return answer if isinstance(answer, str) else ""

    def names(self, path: str) -> list[str]:
        """Return what is in a folder of the agent's world."""
        answer = self._ask(path)
        return answer if isinstance(answer, list) else []

    def memory(self) -> Memory:
        """Return the agent's memory."""
        numbers = {
            name: int(count)
            for name, count in re.findall(
                r"^(\w+): +(\d+) kB$", self.read(f"{_AGENT}/smaps_rollup"), re.MULTILINE
            )
        }
        return Memory(numbers["Rss"], numbers["Pss"], numbers["Anonymous"])

    def descriptors(self) -> int:
        """Return how many descriptors the agent has open."""
        return len(self.names(f"{_AGENT}/fd"))

    def wake_ups(self) -> int:
        """Return how often the agent has given the processor up of its own accord.

        Each wake-up ends with another wait, so between two readings the difference is their number.
        """
        found = re.search(r"^voluntary_ctxt_switches:\t(\d+)$", self._status("1"), re.MULTILINE)
        assert found
        return int(found[1])

    def processes(self) -> dict[int, str]:
        """Return the state letter of each process that has a program, and of each zombie."""
        found = {}
        for pid in filter(str.isdigit, self.names("/proc")):
            state = re.search(r"^State:\t(\w)", status := self._status(pid), re.MULTILINE)
            # A kernel thread has no memory, and is no zombie.
            if state and (state[1] == "Z" or "VmSize:" in status):
                found[int(pid)] = state[1]
        return found

    def _status(self, pid: str) -> str:
        return self.read(f"/proc/{pid}/status")

    def _ask(self, path: str) -> Any:
        self._line.sendall(path.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            more = self._line.recv(65536)
            if not more:
                raise EOFError("the machine has ended")
            answer += more
        return json.loads(answer)


@contextlib.contextmanager
def watched(
    work: Path, link: Path, run: RunConfig, **options: Any
) -> Iterator[tuple[Booted, Watcher]]:
    """Start a machine as `booted` does, with a watcher in it, which answers once it is up."""
    initrd = own_init.with_script_before(_WATCHER, work / "watched-initrd")
    port = work / "watcher"
    port.unlink(missing_ok=True)
    devices = (
        *("-chardev", f"socket,id=watcher,path={port},server=on,wait=off"),
        *("-device", "isa-serial,chardev=watcher,index=2"),
    )

    def change(arguments: list[str]) -> list[str]:
        return [*own_init.booting(initrd, arguments), *devices]

    with (
        booted(work, link, run, change=change, **options) as machine,
        contextlib.closing(_connect(port)) as line,
    ):
        yield machine, Watcher(line)


def _connect(path: Path) -> socket.socket:
    """Connect to QEMU, which makes its socket when it starts."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(BOOT_SECONDS)
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            connected.connect(str(path))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return connected
