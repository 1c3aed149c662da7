"""Get a machine's supervisor going. Owns what is prepared before QEMU starts, and the hand-over.

Whoever starts a machine holds its lock, prepares everything, and leaves the lock to the supervisor,
which inherits it: there is no instant at which somebody else could come in between.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.host.relay import write_key
from converter.errors import HypervisorError, NotFoundError
from converter.machine.directory import (
    GO,
    LINE_SOCKET,
    START_FILE,
    SUPERVISOR_LOG,
    MachineFolder,
    write_private,
)
from converter.machine.model import KEY_BYTES, MachineSpec
from converter.machine.qemu import check_disks, write_guest_document
from converter.machine.qemu_command import Accelerator, machine_arguments
from converter.machine.volume_disks import guest_volumes, make_overlays
from converter.network.ports import find_ports
from converter.volume.volumes import Lent

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 60.0
_LOG_LINES = 5
_LOG_BYTES = 4096


def prepare(
    folder: MachineFolder,
    spec: MachineSpec,
    accelerator: Accelerator,
    *,
    temporary: bool,
    volumes: Sequence[Lent] = (),
) -> None:
    """Write all that a start needs: a new key, the guest's document, QEMU's arguments.

    `volumes` are the machine's, in its hands already. The lock is held. Raises NotFoundError when a
    disk is gone, IntegrityError for a damaged volume, UsageError when a port is in use,
    HypervisorError.
    """
    check_disks(folder.path, spec)
    key = secrets.token_bytes(KEY_BYTES)
    try:
        make_overlays(folder.path, volumes)
        write_guest_document(folder.path, spec, key, guest_volumes(spec.volumes, volumes))
        write_key(folder.relay, key)
        ports = find_ports(spec.networking.ports)
        arguments = machine_arguments(
            spec,
            accelerator,
            machine=folder.id,
            channel=LINE_SOCKET,
            temporary=temporary,
            volumes=volumes,
            ports=ports,
        )
        started = {"arguments": arguments, "ports": [port.to_json() for port in ports]}
        write_private(folder.path / START_FILE, started)
    except OSError as error:
        raise HypervisorError(
            f"The machine's folder cannot be filled: {error}.",
            hint="Make room on its disk, or name another folder with --state.",
        ) from error


class Launch:
    """A supervisor on its way. It takes over `lock`, and does nothing until it is told to go.

    So it gets ready while its starter prepares the machine: a Python program takes its time.
    `for_qemu` are descriptors that QEMU gets, which the supervisor does not keep. Closing this
    without `go` ends it. Raises HypervisorError.
    """

    def __init__(
        self, folder: MachineFolder, mode: str, lock: int, *, for_qemu: Sequence[int] = ()
    ) -> None:
        self._folder = folder
        self._ready, told = os.pipe()
        try:
            hold, self._held = os.pipe()
            try:
                _spawn(folder, mode, [lock, told, hold, *for_qemu])
            except BaseException:
                os.close(self._held)
                raise
            finally:
                os.close(hold)
        except BaseException:
            os.close(self._ready)
            raise
        finally:
            os.close(told)

    def go(self) -> None:
        """Have it start; return when the relay can be reached.

        Raises HypervisorError, NotFoundError.
        """
        with suppress(BrokenPipeError):  # it has ended already, and says why
            os.write(self._held, GO)
        _wait_until_ready(self._folder, self._ready)

    def close(self) -> None:
        """Let the supervisor go when it has nothing to do any more."""
        os.close(self._ready)
        os.close(self._held)


def _spawn(folder: MachineFolder, mode: str, inherited: Sequence[int]) -> None:
    # Above all of them, so that none is overwritten before it is duplicated.
    numbers = [max(inherited) + 1 + index for index in range(len(inherited))]
    log = os.fspath(folder.path / SUPERVISOR_LOG)
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    actions += [
        (os.POSIX_SPAWN_DUP2, source, number)
        for source, number in zip(inherited, numbers, strict=True)
    ]
    # Without what is installed: it needs the standard library and us.
    arguments = [sys.executable, "-S", "-P", "-m", "converter.machine.supervisor", mode]
    arguments += [os.fspath(folder.path), *map(str, numbers)]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    try:
        os.posix_spawn(
            sys.executable,
            arguments,
            {**os.environ, "PYTHONPATH": path},
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    except OSError as error:
        raise HypervisorError(f"The machine's supervisor does not start: {error}.") from error


def _wait_until_ready(folder: MachineFolder, ready: int) -> None:
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    if not poll.poll(_READY_SECONDS * 1000):
        raise HypervisorError(
            f"The machine's supervisor said nothing for {_READY_SECONDS:g} s.",
            hint=f"Look at {folder.path / SUPERVISOR_LOG}.",
        )
    line = os.read(ready, select.PIPE_BUF)
    if not line:
        raise HypervisorError(
            "The machine's supervisor ended before the machine ran.", hint=_last_lines(folder)
        )
    told = json.loads(line)
    if not told["ok"]:
        kind = NotFoundError if told.get("kind") == "not-found" else HypervisorError
        raise kind(f"The machine does not start: {told['what']}", hint=told["hint"] or None)


def _last_lines(folder: MachineFolder) -> str:
    path = folder.path / SUPERVISOR_LOG
    try:
        text = path.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
    except OSError:
        return f"Look at {path}."
    return "\n    ".join(["This is what it said last:", *text.splitlines()[-_LOG_LINES:]])
