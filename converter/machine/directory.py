"""A machine's folder: who owns it at present, what it was asked to be, and how it is.

machine.json    what was asked for, written once
state.json      how it is (state.py); absent before the first start
lock            held by whoever changes anything, for a running machine its supervisor; says who
qemu.pid        the QEMU of this machine, written by itself before it becomes QEMU
start.json      QEMU's arguments, and the ports of this host that lead to the machine
scratch.vmdk, config.json, console.log, qemu.log, supervisor.log, line.sock; relay/ is agent.host's

Imported by the supervisor, which has to start quickly.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.atomic import write_atomic
from converter.errors import IntegrityError, NotFoundError
from converter.machine.process_mark import ProcessMark, own_mark
from converter.machine.state import State, read_state

MACHINE_FILE = "machine.json"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
PID_FILE = "qemu.pid"
START_FILE = "start.json"
SUPERVISOR_LOG = "supervisor.log"
LINE_SOCKET = "line.sock"
QEMU_LOG = "qemu.log"
RELAY_FOLDER = "relay"

# What the owner of a folder is about, in its lock file.
STARTING = "starting"
SERVING = "serving"  # QEMU runs, or is about to
LINGERING = "lingering"  # QEMU has ended and that is written down; clients get the rest
CHANGING = "changing"

GO = b"go"  # what a supervisor waits for at the pipe that holds it

SHORT_ID_DIGITS = 12  # of an id, where a person reads it

_LIMIT_BYTES = 1 << 22
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a machine's lock, and what for. `role` is SERVING or LINGERING."""

    role: str
    mark: ProcessMark


class MachineFolder:
    """The folder of one machine. Reading takes no lock; who writes must hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    @property
    def relay(self) -> Path:
        """The relay's folder."""
        return self.path / RELAY_FOLDER

    # --- what it was asked to be, and how it is ----------------------------------------------

    def machine(self) -> dict[str, Any]:
        """Return machine.json. Raises NotFoundError without a machine, IntegrityError."""
        document = _read(self.path / MACHINE_FILE)
        if document is None:
            raise no_machine(self.id)
        return document

    @property
    def name(self) -> str:
        """What people call the machine; the beginning of its id where that cannot be read."""
        try:
            return str(self.machine()["name"])
        except (NotFoundError, IntegrityError, KeyError, OSError):
            return self.id[:SHORT_ID_DIGITS]

    def state(self) -> State:
        """Return what is written of how the machine is. Raises NotFoundError, IntegrityError."""
        path = self.path / STATE_FILE
        document = _read(path)
        if document is None and not self.path.is_dir():
            raise no_machine(self.id)
        try:
            return State() if document is None else read_state(document)
        except ValueError as error:
            raise IntegrityError(f"{path} is not readable: {error}.") from error

    def write_state(self, state: State) -> None:
        """Replace state.json, for good. Raises OSError."""
        write_private(self.path / STATE_FILE, state.to_json())

    # --- QEMU ------------------------------------------------------------------------------------

    def qemu(self) -> ProcessMark | None:
        """Return the mark of this machine's last QEMU, alive or not."""
        try:
            return ProcessMark.parse((self.path / PID_FILE).read_text("ascii"))
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def living_qemu(self) -> ProcessMark | None:
        """Return the mark of this machine's QEMU if it runs."""
        mark = self.qemu()
        return mark if mark is not None and mark.is_alive() else None

    # --- who owns it -----------------------------------------------------------------------------

    def try_lock(self, role: str) -> int | None:
        """Take the lock for `role`; return its descriptor, None when somebody else has it.

        The lock goes with the last process that has the descriptor. Raises NotFoundError.
        """
        path = self.path / LOCK_FILE
        try:
            descriptor = os.open(
                self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except (FileNotFoundError, NotADirectoryError):
            raise no_machine(self.id) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The machine may have been removed between the two.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise no_machine(self.id)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, FileNotFoundError):
                raise no_machine(self.id) from None
            raise
        self.say_role(descriptor, role)
        return descriptor

    def say_role(self, descriptor: int, role: str) -> None:
        """Let others know what the lock is held for, by the process that calls this."""
        text = f"{role} {own_mark()}\n".encode("ascii")
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))

    def supervisor(self) -> Owner | None:
        """Return the supervisor that has the lock, and what it is about; None: there is none."""
        try:
            role, _, mark = (self.path / LOCK_FILE).read_text("ascii").partition(" ")
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        parsed = ProcessMark.parse(mark)
        # A supervisor keeps the lock for as long as it lives; others may have let go of it.
        if role not in {SERVING, LINGERING} or parsed is None or not parsed.is_alive():
            return None
        return Owner(role, parsed)

    @contextmanager
    def locked(self, role: str, seconds: float) -> Iterator[int | None]:
        """Hold the lock, waiting for it at most so long; None when that was not enough."""
        deadline = time.monotonic() + seconds
        while (descriptor := self.try_lock(role)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


def no_machine(name: str) -> NotFoundError:
    """Return the error for a name or id that no machine has."""
    return NotFoundError(
        f"There is no machine {name}.", hint="List all of them with: saltflat ps --all"
    )


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Make the file `path`, for its owner alone, hold a JSON document. Raises OSError."""
    write_atomic(path, json.dumps(document, sort_keys=True).encode() + b"\n", mode=0o600)


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None when there is no such file. Raises IntegrityError."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_LIMIT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(document, dict):
        raise IntegrityError(f"{path} is no JSON object.")
    return document
