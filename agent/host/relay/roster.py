"""Which machines a relay for many serves: their names, UUIDs and keys, in one directory.

Owns the directory's layout and every change of it; whoever makes machines calls `add` before a
machine's first boot, beside a running relay or without one:

    machines/<name>/     the relay's folder of a machine, with its `key`
        identity         JSON: schema, uuid (null: whoever says that this is its name), epoch
    uuids/<uuid>         symbolic link to the machine's folder
    changes              another file after every change: how a running relay learns of it
    roster.lock          flock(2) of who changes something
    work.lock            a byte locked for each machine that is being started or removed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from agent.host.errors import ChannelError
from agent.host.relay.keys import KEY_BYTES, KEY_NAME, write_key
from agent.host.vspc.identity import read_uuid

SCHEMA = 1
IDENTITY_NAME = "identity"
_MACHINES, _UUIDS, _CHANGES, _LOCK = "machines", "uuids", "changes", "roster.lock"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,79}")  # at most what vSphere gives a name
_UNFINISHED = ".part-"
_WORK_LOCK = "work.lock"
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2), padded as the compiler does
_LOCK_BYTES = 1 << 62  # of a file that stays empty
_LOCK_PAUSE_SECONDS = 0.05


class NoMachineError(ChannelError):
    """The roster has no machine of this name."""

    kind = "no-machine"


class MachineExistsError(ChannelError):
    """The roster has a machine of this name or UUID already."""

    kind = "machine-exists"


class WorkedOnError(ChannelError):
    """Another process is at work on the machine."""

    kind = "worked-on"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a guest is to be told, so that it and the relay know each other.

    Of two documents a guest takes the one with the higher `epoch`; see docs/protocol.md.
    """

    name: str
    uuid: str | None
    epoch: int
    key: bytes = field(repr=False)

    def document(self) -> dict[str, object]:
        """Return the members of the guest's document that are the relay's business."""
        return {"schema": 1, "epoch": self.epoch, "key": self.key.hex()}


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a machine, without its key."""

    name: str
    uuid: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Which files a machine's identity and key are: another one after a change, None for none."""

    identity: object
    key: object


class Roster:
    """The machines of `directory`, which is made (mode 0700) or must be safe.

    `wall_ms` is milliseconds since 1970: an epoch is never below it, so that it is a new one even
    where everything that was known of a machine is lost. Raises ChannelError.
    """

    def __init__(
        self, directory: Path, *, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self.directory = directory
        self._wall_ms = wall_ms
        try:
            for folder in (directory, directory / _MACHINES, directory / _UUIDS):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.stat()
        except OSError as error:
            raise ChannelError(f"The directory {directory} cannot be used: {error}.") from error
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ChannelError(
                f"Others may enter the directory {directory}, which holds keys.",
                expected="a directory of the user who runs this, of mode 0700",
                hint=f"chmod 700 {directory}, or name another one.",
            )

    # --- looking ---------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """Return where a machine's folder is, or would be."""
        return self.directory / _MACHINES / name

    def names(self) -> list[str]:
        """Return all machines' names, sorted."""
        with os.scandir(self.directory / _MACHINES) as entries:
            return sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name))

    def identity(self, name: str) -> Identity | None:
        """Return a machine's identity; None when there is no such machine, or its file is damaged.

        Costs one read; `name` may be anything.
        """
        if not _NAME.fullmatch(name):
            return None
        try:
            found = json.loads((self.folder(name) / IDENTITY_NAME).read_bytes())
            uuid, epoch = found["uuid"], found["epoch"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if found["schema"] != SCHEMA or not isinstance(epoch, int):
            return None
        return Identity(name, uuid if isinstance(uuid, str) else None, epoch)

    def resolve(self, uuid: str, name: str | None) -> Identity | None:
        """Return the machine that a VM is: the one of its UUID, else the one that has but a name.

        `name` is what the VM calls itself. None: it is none of ours.
        """
        with contextlib.suppress(OSError):
            target = (self.directory / _UUIDS / uuid).readlink().name
            found = self.identity(target)
            if found is not None and found.uuid == uuid:
                return found
        found = self.identity(name or "")
        return found if found is not None and found.uuid is None else None

    def changes(self) -> object:
        """Return a value that is another one after every change."""
        return _stamp(self.directory / _CHANGES)

    def mark(self, name: str) -> Mark:
        """Return which files a machine's identity and key are now; costs no read.

        `name` may be anything.
        """
        if not _NAME.fullmatch(name):
            return Mark(None, None)
        folder = self.folder(name)
        return Mark(_stamp(folder / IDENTITY_NAME), _stamp(folder / KEY_NAME))

    # --- changing --------------------------------------------------------------------------------

    def add(self, name: str, uuid: str | None = None, *, key: bytes | None = None) -> Enrolment:
        """Enrol a machine before its first boot: with this key, or a new one.

        `uuid` is vSphere's instanceUuid (of a host without vCenter: config.uuid); without it the
        machine is the VM that calls itself `name`, which is a weaker claim. Raises ValueError on a
        name, UUID or key that is none, MachineExistsError.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no machine's name: letters, digits, and _.- behind one")
        if uuid is not None:
            uuid = read_uuid(uuid.encode())
            if not uuid:
                raise ValueError("not a UUID")
        with self._changing():
            if self.folder(name).exists():
                raise MachineExistsError(
                    f"There is a machine {name} already.",
                    hint="Give it a new key with rekey, or remove it first.",
                )
            link = None if uuid is None else self.directory / _UUIDS / uuid
            if link is not None and link.exists():
                raise MachineExistsError(
                    f"Machine {link.readlink().name} has the UUID {uuid} already.",
                    hint="Remove that one first, if it is no more.",
                )
            new = self.directory / _MACHINES / f"{_UNFINISHED}{name}"
            enrolment = Enrolment(name, uuid, self._wall_ms(), _checked(key))
            write_key(new, enrolment.key)
            _write_identity(new, enrolment)
            if link is not None:
                link.unlink(missing_ok=True)  # it led nowhere
                link.symlink_to(Path("..") / _MACHINES / name)
            new.rename(self.folder(name))
        return enrolment

    def rekey(self, name: str, *, key: bytes | None = None) -> Enrolment:
        """Give a machine another key, in a new epoch; nothing under the old one is accepted then.

        The guest learns of it by a new document. Raises NoMachineError, ValueError.
        """
        with self._changing():
            identity = self.identity(name)
            if identity is None:
                raise _no_machine(name)
            epoch = max(identity.epoch + 1, self._wall_ms())
            enrolment = Enrolment(name, identity.uuid, epoch, _checked(key))
            _write_identity(self.folder(name), enrolment)
            write_key(self.folder(name), enrolment.key)
        return enrolment

    def remove(self, name: str) -> None:
        """Forget a machine: its key, its log, everything. Raises NoMachineError."""
        with self._changing():
            identity = self.identity(name)
            if not _NAME.fullmatch(name) or not self.folder(name).exists():
                raise _no_machine(name)
            gone = self.directory / _MACHINES / f"{_UNFINISHED}{name}"
            self.folder(name).rename(gone)
            if identity is not None and identity.uuid is not None:
                (self.directory / _UUIDS / identity.uuid).unlink(missing_ok=True)
            shutil.rmtree(gone)

    @contextlib.contextmanager
    def working_on(self, uuid: str, timeout_seconds: float) -> Iterator[None]:
        """Be the only one who starts or removes the VM with this UUID, whoever else wants to.

        The lock goes with the process that has it. Raises WorkedOnError when another one keeps it
        for too long.
        """
        descriptor = os.open(
            self.directory / _WORK_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            _lock_byte(descriptor, UUID(uuid).int % _LOCK_BYTES, timeout_seconds)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in (self.directory / _MACHINES).glob(f"{_UNFINISHED}*"):  # by who was killed
                shutil.rmtree(left)
            yield
            new = self.directory / f"{_CHANGES}.new"
            new.write_bytes(b"")
            new.replace(self.directory / _CHANGES)
        except OSError as error:
            raise ChannelError(
                f"The directory {self.directory} cannot be used: {error}."
            ) from error
        finally:
            os.close(descriptor)


def _lock_byte(descriptor: int, offset: int, timeout_seconds: float) -> None:
    # Of the open file and not of the process, as fcntl.lockf's are: threads are others, too.
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    end = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except BlockingIOError:
            if time.monotonic() > end:
                raise WorkedOnError(
                    "Another process has been at work on the machine for too long.",
                    hint="See what it does, or end it.",
                ) from None
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _checked(key: bytes | None) -> bytes:
    if key is None:
        return secrets.token_bytes(KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    return key


def _write_identity(folder: Path, enrolment: Enrolment) -> None:
    text = json.dumps({"schema": SCHEMA, "uuid": enrolment.uuid, "epoch": enrolment.epoch})
    new = folder / f"{IDENTITY_NAME}.new"
    with new.open("w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / IDENTITY_NAME)


def _no_machine(name: str) -> NoMachineError:
    return NoMachineError(
        f"There is no machine {name!r}.",
        expected="a machine that was added",
        hint="saltflat vspc ls shows them.",
    )
