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
from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.store.locks import locked
from converter.volume import users
from converter.volume.mount import VolumeMount
from converter.volume.name import check_name, is_name, new_name
from converter.volume.record import RECORD_LIMIT_BYTES, Volume, decode
from converter.volume.request import VolumeRequest
from converter.volume.users import USERS, Use, User

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
        state = state.absolute()  # a hypervisor has another working directory
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

    def users(self, name: str) -> tuple[User, ...]:
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
            return self._create(
                name or new_name(), size_bytes=size_bytes, labels=labels, anonymous=name is None
            )

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume with all that is on it.

        Raises NotFoundError unless `force`, UsageError if a machine uses it, running or not.
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

    def prepare(self, requests: Iterable[VolumeRequest]) -> tuple[VolumeMount, ...]:
        """Return what a machine is to be made with; the volumes that have names are made.

        The others are left to `attach`, so that none is left over if there will be no machine.
        Raises as `create`.
        """
        mounts = []
        for request in requests:
            if request.name is not None:
                self.create(request.name, size_bytes=request.size_bytes, labels=request.labels)
            mounts.append(
                VolumeMount(
                    name=request.name or new_name(),
                    target=request.target,
                    read_only=request.read_only,
                    copy=request.copy,
                    anonymous=request.name is None,
                )
            )
        return tuple(mounts)

    def attach(self, machine_id: str, machine_name: str, mounts: Iterable[VolumeMount]) -> None:
        """Note that a new machine uses its volumes, durably; make those that are missing.

        The machine's folder must be there, finished or not: without it the notes are void. After
        an error nothing is left of this. Raises OSError and as `create`.
        """
        uses = _uses(mounts)
        if not uses:
            return
        with self._locked():
            try:
                for name, use in uses.items():
                    self._create(name, anonymous=use.anonymous)
                    users.enter(self.root / name, machine_id=machine_id, name=machine_name, use=use)
            except BaseException:
                self._detach(machine_id, remove_anonymous=True)
                raise

    def detach(self, machine_id: str, *, remove_anonymous: bool) -> None:
        """Let go of all that a machine has, which does not run. May be repeated. Raises OSError.

        `remove_anonymous` also deletes the volumes that were made for it without a name, if no
        other machine uses them.
        """
        if self.root.is_dir():
            with self._locked():
                self._detach(machine_id, remove_anonymous=remove_anonymous)

    @contextmanager
    def lend(
        self, machine_id: str, machine_name: str, mounts: Iterable[VolumeMount]
    ) -> Iterator[tuple[Lent, ...]]:
        """Yield the disks for a machine that is to run, each once, in the order of `mounts`.

        The hypervisor's process must inherit their descriptors: the volumes are taken for as long
        as a process has them. This one closes its own at the block's end. Raises UsageError if one
        is in use, NotFoundError if it is gone.
        """
        lent: list[Lent] = []
        uses = _uses(mounts)
        try:
            if uses:
                with self._locked():
                    for name, use in uses.items():
                        lent.append(self._lend(machine_id, machine_name, name, use))
            yield tuple(lent)
        finally:
            for one in lent:
                os.close(one.descriptor)

    # With the lock held

    def _create(
        self,
        name: str,
        *,
        size_bytes: int | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool,
    ) -> Volume:
        # Whoever runs and removes machines with volumes need not load a file system's writer.
        from converter.volume.disk import (  # noqa: PLC0415 - see above
            whole_size,
            write_volume,
        )

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
            labels=labels or {},
            anonymous=anonymous,
        )
        folder = temp_directory(self.root / name)
        try:
            folder.chmod(0o700)
            (folder / USERS).mkdir(mode=0o700)
            with open(folder / DISK_FILE, "xb", buffering=0, opener=private) as file:
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

    def _lend(self, machine_id: str, machine_name: str, name: str, use: Use) -> Lent:
        volume = self.get(name)
        if not self.disk(name).is_file():
            raise IntegrityError(
                f"Volume {name} has no disk.",
                hint=f"Put {self.disk(name)} back, or remove what is left of the volume.",
            )
        descriptor = users.hold(
            self.root / name,
            self._machines,
            machine_id=machine_id,
            name=machine_name,
            use=use,
        )
        return Lent(
            volume=volume, disk=self.disk(name), read_only=use.read_only, descriptor=descriptor
        )

    def _detach(self, machine_id: str, *, remove_anonymous: bool) -> None:
        for name in self.names():
            made_for_it = users.leave(self.root / name, machine_id)
            if remove_anonymous and made_for_it and not self._used(name):
                self._remove(name)

    def _used(self, name: str) -> bool:
        return any(True for _ in users.users_of(self.root / name, self._machines))

    def _refuse_if_used(self, name: str) -> None:
        found = tuple(users.users_of(self.root / name, self._machines))
        if found:
            names = ", ".join(f"{user.name} ({user.machine_id[:12]})" for user in found)
            raise UsageError(
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


def _uses(mounts: Iterable[VolumeMount]) -> dict[str, Use]:
    """Return each volume once. One that is mounted twice is written to if either mount is."""
    uses: dict[str, Use] = {}
    for mount in mounts:
        read_only = mount.read_only and (mount.name not in uses or uses[mount.name].read_only)
        uses[mount.name] = Use(read_only=read_only, anonymous=mount.anonymous)
    return uses


def private(path: str, flags: int) -> int:
    """Be an `opener` of `open`, for a file that only its owner may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
