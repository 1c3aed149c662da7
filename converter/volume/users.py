"""Which machines use a volume, and which of them run. Owns the folder `users/` of a volume.

users/<machine id>    one file for each machine that was made with the volume, running or not

The file is void when the machine's folder is gone, or was never finished. While the machine runs it
is locked (flock) by a descriptor that QEMU itself inherits: so the lock lasts exactly as long as
something may write to the disk, whoever of us is killed, and a reboot of the host leaves none. All
of this happens while the lock of the folder of all volumes is held.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter.atomic import write_atomic
from converter.errors import UsageError

USERS = "users"
_SCHEMA = 1
_LIMIT_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A machine that uses a volume."""

    machine_id: str
    name: str
    read_only: bool
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a machine wants of a volume. `anonymous`: the volume was made for it and has no name."""

    read_only: bool
    anonymous: bool


def enter(volume: Path, *, machine_id: str, name: str, use: Use) -> None:
    """Note that the machine of that id and name uses the volume in folder `volume`; OSError."""
    document = {"schema": _SCHEMA, "name": name, **asdict(use)}
    write_atomic(volume / USERS / machine_id, json.dumps(document, sort_keys=True).encode())


def leave(volume: Path, machine_id: str) -> bool:
    """Note that a machine uses the volume no more, if it did; OSError.

    Return whether the volume was made for it and has no name.
    """
    note = volume / USERS / machine_id
    try:
        raw = note.read_bytes()
    except FileNotFoundError:
        return False
    note.unlink()
    return _parse(raw).get("anonymous") is True


def users_of(volume: Path, machines: Path) -> Iterator[User]:
    """Yield the users of the volume in folder `volume`, in the order of their ids.

    `machines` is the folder that has the machines' own. Raises OSError.
    """
    folder = volume / USERS
    for note in sorted(folder.iterdir()) if folder.is_dir() else ():
        machine_id = note.name
        if machine_id.startswith("."):  # unfinished
            continue
        try:
            descriptor = os.open(note, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            running = not _lock(descriptor, fcntl.LOCK_SH)
            if running or _is_there(machines, machine_id):
                yield _read(os.read(descriptor, _LIMIT_BYTES), machine_id, running=running)
        finally:
            os.close(descriptor)


def hold(volume: Path, machines: Path, *, machine_id: str, name: str, use: Use) -> int:
    """Mark a machine as running with the volume; return the descriptor that keeps the mark.

    The mark is there until every process that inherited the descriptor has closed it. Raises
    UsageError while the machine runs already, or another one does and either of them writes.
    """
    for user in users_of(volume, machines):
        shared = use.read_only and user.read_only
        if user.running and (user.machine_id == machine_id or not shared):
            verb = "reads" if user.read_only else "writes to"
            raise UsageError(
                f"Volume {volume.name} is in use: the machine {user.name} "
                f"({user.machine_id[:12]}) runs and {verb} it.",
                expected="one running machine that writes to a volume, or any number that read it",
                hint=f"Stop it first: saltflat stop {user.name}; or mount it with :ro in both. "
                "A volume is a disk, not a shared folder.",
            )
    note = volume / USERS / machine_id
    if not note.exists():
        enter(volume, machine_id=machine_id, name=name, use=use)
    descriptor = os.open(note, os.O_RDONLY | os.O_CLOEXEC)
    if not _lock(descriptor, fcntl.LOCK_EX):
        os.close(descriptor)
        raise AssertionError("somebody locks a note without the lock of all volumes")
    return descriptor


def _is_there(machines: Path, machine_id: str) -> bool:
    """Say whether a machine's folder is there, or is being made."""
    return any((machines / name).is_dir() for name in (machine_id, f".new-{machine_id}"))


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(raw: bytes, machine_id: str, *, running: bool) -> User:
    """Read a note. A damaged one is a user all the same, of the kind that needs the most care."""
    document = _parse(raw)
    return User(
        machine_id=machine_id,
        name=str(document.get("name", machine_id[:12])),
        read_only=document.get("read_only") is True,
        running=running,
    )


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
