"""The folder of all volumes: making, finding and removing them, and lending them to machines.

    volumes/.lock                 flock: exclusive for every change, shared for a look
    volumes/<name>/volume.json    the record
    volumes/<name>/disk.vmdk      the disk
    volumes/<name>/users/         which machines use it

A volume is made under a temporary name and renamed when it is whole and durable, and renamed away
before it is deleted. Both happen with the lock held, so whatever has a temporary name when somebody
else gets the lock is left by a dead process.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import (
    TEMP_PREFIX,
    make_directory,
    sync_directory,
    temp_directory,
    temp_name,
    write_atomic,
)
from converter.errors import IntegrityError, NotFoundError, SaltflatError, UsageError
from converter.store.locks import locked
from converter.volume import users
from converter.volume.mounted import Mounted
from converter.volume.name import check_name, is_name, new_name
from converter.volume.record import RECORD_LIMIT_BYTES, Volume, decode
from converter.volume.request import VolumeRequest

DEFAULT_SIZE_BYTES = 10 << 30
DISK_FILE = "disk.vmdk"

_VOLUMES = "volumes"
_MACHINES = "machines"
_RECORD_FILE = "volume.json"
_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """A volume's disk for a machine that is about to run, and the mark that it runs."""

    volume: Volume
    disk: Path
    read_only: bool
    descriptor: int


class Volumes:
    """The volumes under one state folder, where machines have theirs too. Makes what is missing."""

    def __init__(self, state: Path) -> None:
        self.root = state / _VOLUMES
        self._machines = state / _MACHINES

    # Looking

    def get(self, name: str) -> Volume:
        """Return a volume. Raises NotFoundError, UsageError, IntegrityError if it is damaged."""
        check_name(name)
        try:
            with (self.root / name / _RECORD_FILE).open("rb") as file:
                return decode(file.read(RECORD_LIMIT_BYTES), name)
        except FileNotFoundError as error:
            if (self.root / name).is_dir():
                raise IntegrityError(
                    f"Volume {name} has no record.",
                    hint=f"Save its disk if you need it, then: saltflat volume rm {name}",
                ) from error
            raise NotFoundError(
                f"There is no volume {name}.",
                hint="List what there is: saltflat volume ls",
            ) from error

    def names(self) -> list[str]:
        """Return all names, damaged ones too, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if is_name(path.name))

    def disk(self, name: str) -> Path:
        """Return where a volume's disk is."""
        return self.root / name / DISK_FILE

    def users(self, name: str) -> tuple[users.User, ...]:
        """Return the machines that use a volume, running or not."""
        with self._locked(shared=True):
            return tuple(users.users_of(self.root / name, self._machines))

    # Changing

    def create(
        self,
        name: str | None = None,
        *,
        size_bytes: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one of that name, as docker does; durable on return.

        Raises UsageError for impossible names and sizes, and if the one that is there has another
        size than was asked for.
        """
        with self._locked():
            return self._create(name, size_bytes=size_bytes, labels=labels or {})

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume with all that is on it.

        Raises NotFoundError unless `force`, SaltflatError if a machine uses it, running or not.
        """
        check_name(name)
        with self._locked():
            if not (self.root / name).is_dir():
                if force:
                    return
                raise NotFoundError(
                    f"There is no volume {name}.", hint="List what there is: saltflat volume ls"
                )
            self._refuse_if_used(name)
            self._remove(name)

    def prune(self, *, named: bool = False) -> list[str]:
        """Remove the anonymous volumes that no machine uses, with `named` the others too.

        Damaged ones stay. Return the names of what was removed.
        """
        removed = []
        with self._locked():
            for name in self.names():
                with suppress(IntegrityError):
                    volume = self.get(name)
                    if (named or volume.anonymous) and not self._used(name):
                        self._remove(name)
                        removed.append(name)
        return removed

    # Machines

    def attach(
        self, machine_id: str, machine_name: str, requests: Iterable[VolumeRequest]
    ) -> tuple[Mounted, ...]:
        """Give a new machine what it asks for: make what is missing, and note the user.

        The machine's folder must be there: without it the notes are void. After an error nothing
        is left of it but named volumes. Raises as `create`.
        """
        mounted: list[Mounted] = []
        requests = tuple(requests)
        with self._locked():
            try:
                for request in requests:
                    volume = self._create(
                        request.name, size_bytes=request.size_bytes, labels=request.labels
                    )
                    mounted.append(
                        Mounted(
                            name=volume.name,
                            target=request.target,
                            read_only=request.read_only,
                            copy=request.copy,
                            anonymous=request.name is None,
                        )
                    )
                for name, read_only in _modes(mounted).items():
                    users.enter(
                        self.root / name,
                        machine_id=machine_id,
                        name=machine_name,
                        read_only=read_only,
                    )
            except BaseException:
                self._detach(machine_id, mounted, remove_anonymous=True)
                raise
        return tuple(mounted)

    def detach(
        self, machine_id: str, mounted: Iterable[Mounted], *, remove_anonymous: bool
    ) -> None:
        """Let go of what a machine had, which no longer runs. May be repeated. Raises OSError.

        `remove_anonymous` also deletes the volumes that were made for it without a name, if no
        other machine uses them.
        """
        with self._locked():
            self._detach(machine_id, tuple(mounted), remove_anonymous=remove_anonymous)

    @contextmanager
    def lend(
        self, machine_id: str, machine_name: str, mounted: Iterable[Mounted]
    ) -> Iterator[tuple[Lent, ...]]:
        """Yield the disks for a machine that is to run, each once, in the order of `mounted`.

        The hypervisor's process must inherit their descriptors: the volumes are taken for as long
        as a process has them. This one closes its own at the block's end. Raises SaltflatError if
        one is in use, NotFoundError if it is gone.
        """
        lent: list[Lent] = []
        try:
            with self._locked():
                for name, read_only in _modes(mounted).items():
                    volume = self.get(name)
                    descriptor = users.hold(
                        self.root / name,
                        self._machines,
                        machine_id=machine_id,
                        name=machine_name,
                        read_only=read_only,
                    )
                    lent.append(
                        Lent(
                            volume=volume,
                            disk=self.disk(name),
                            read_only=read_only,
                            descriptor=descriptor,
                        )
                    )
            yield tuple(lent)
        finally:
            for one in lent:
                os.close(one.descriptor)

    # With the lock held

    def _create(
        self, name: str | None, *, size_bytes: int | None, labels: Mapping[str, str]
    ) -> Volume:
        # Whoever runs and removes machines with volumes need not load a file system's writer.
        from converter.volume.disk import (  # noqa: PLC0415 - see above
            whole_size,
            write_volume,
        )

        anonymous = name is None
        name = name or new_name()
        check_name(name)
        size_bytes = None if size_bytes is None else whole_size(size_bytes)
        if (self.root / name).is_dir():
            volume = self.get(name)
            if size_bytes not in (None, volume.size_bytes):
                raise UsageError(
                    f"Volume {name} is there already, with {volume.size_bytes} bytes.",
                    expected=f"the {size_bytes} bytes that were asked for",
                    hint=f"Leave out the size, choose another name, or: saltflat volume rm {name}",
                )
            return volume
        self._sweep()
        volume = Volume(
            name=name,
            uuid=uuid.uuid4(),
            size_bytes=size_bytes or DEFAULT_SIZE_BYTES,
            created_ns=time.time_ns(),
            labels=labels,
            anonymous=anonymous,
        )
        folder = temp_directory(self.root / name)
        try:
            folder.chmod(0o700)
            (folder / users.USERS).mkdir(mode=0o700)
            with open(folder / DISK_FILE, "xb", buffering=0, opener=_private) as file:
                write_volume(
                    file,
                    size_bytes=volume.size_bytes,
                    uuid=volume.uuid,
                    label="" if anonymous else name,
                )
                os.fsync(file.fileno())
            write_atomic(folder / _RECORD_FILE, volume.encode(), mode=0o600)
            sync_directory(folder)
            folder.rename(self.root / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_directory(self.root)
        return volume

    def _detach(
        self, machine_id: str, mounted: Iterable[Mounted], *, remove_anonymous: bool
    ) -> None:
        for one in mounted:
            folder = self.root / one.name
            users.leave(folder, machine_id)
            if remove_anonymous and one.anonymous and folder.is_dir() and not self._used(one.name):
                self._remove(one.name)

    def _used(self, name: str) -> bool:
        return any(True for _ in users.users_of(self.root / name, self._machines))

    def _refuse_if_used(self, name: str) -> None:
        found = tuple(users.users_of(self.root / name, self._machines))
        if found:
            names = ", ".join(f"{user.name} ({user.machine_id[:12]})" for user in found)
            raise SaltflatError(
                f"Volume {name} is in use by {names}.",
                expected="a volume that no machine has, running or not",
                hint=f"Remove the machine first: saltflat rm {found[0].name}",
            )

    def _remove(self, name: str) -> None:
        away = temp_name(self.root / name)
        (self.root / name).rename(away)
        sync_directory(self.root)
        shutil.rmtree(away)

    def _sweep(self) -> None:
        """Delete what dead processes left."""
        for left in self.root.glob(f"{TEMP_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _locked(self, *, shared: bool = False) -> Iterator[None]:
        if not self.root.is_dir():
            make_directory(self.root.parent)
            make_directory(self.root)
            self.root.chmod(0o700)
        with locked(self.root / ".lock", shared=shared, timeout_seconds=_LOCK_SECONDS):
            yield


def _modes(mounted: Iterable[Mounted]) -> dict[str, bool]:
    """Return each volume once, and whether all of its mounts are read-only."""
    modes: dict[str, bool] = {}
    for one in mounted:
        modes[one.name] = modes.get(one.name, True) and one.read_only
    return modes


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
