"""All machines of a state root: their folders, names and records. Owns creating and finding them.

machines/<id>/       one machine (directory.py)
machines/.lock       held while machines come and go, so names stay unique
machines/.new-<id>   being made; .gone-<id> being removed

Starts and ends nothing.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.host import client
from agent.host.relay.life import HealthReport
from agent.host.relay.status import reported_status
from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.machine.directory import (
    MACHINE_FILE,
    START_FILE,
    MachineFolder,
    no_machine,
    write_private,
)
from converter.machine.machines import MachineRecord, MachineRequest
from converter.machine.names import check_name, new_name
from converter.machine.qemu import make_scratch
from converter.machine.removal import NEW_PREFIX, all_names
from converter.machine.settle import look
from converter.machine.spec_json import read_spec, spec_document
from converter.machine.state import Status
from converter.network.model import Binding, read_binding
from converter.store.layout import Store
from converter.store.pins import pin
from converter.volume.volumes import Volumes

MACHINE_SCHEMA = 1
ID = re.compile(r"[0-9a-f]{64}")

_ID_BYTES = 32
_ID_PREFIX = re.compile(r"[0-9a-f]+")
_HOSTNAME_DIGITS = 12  # as docker


class Registry:
    """The machines below the state root `root`; the folder is made when first opened.

    Raises SaltflatError when it cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.machines = root.absolute() / "machines"
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.machines.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SaltflatError(
                f"The folder of machines {self.machines} cannot be used: {error.strerror}.",
                hint="Name a folder that you may write to with --state or SALTFLAT_STATE.",
            ) from error

    def folder(self, machine: str) -> MachineFolder:
        """Return the folder of a machine by its id. Raises NotFoundError."""
        path = self.machines / machine
        if not ID.fullmatch(machine) or not path.is_dir():
            raise no_machine(machine)
        return MachineFolder(path)

    # --- making ----------------------------------------------------------------------------------

    def check_name(self, name: str) -> None:
        """Raise UsageError for a name that is taken, or none."""
        _check_free(name, dict(self._names()))

    def create(self, request: MachineRequest) -> MachineRecord:
        """Make a machine, as Machines.create does."""
        machine = secrets.token_hex(_ID_BYTES)
        spec = request.spec
        if not spec.guest.hostname:
            guest = replace(spec.guest, hostname=machine[:_HOSTNAME_DIGITS])
            spec = replace(spec, guest=guest)
        spec = replace(spec, networking=spec.networking.with_addresses(machine))
        new = MachineFolder(self.machines / f"{NEW_PREFIX}{machine}")
        final = MachineFolder(self.machines / machine)
        with all_names(self.machines):
            names = dict(self._names())
            if request.name is not None:
                _check_free(request.name, names)
            name = request.name or new_name(names)
            document = {
                "schema": MACHINE_SCHEMA,
                "id": machine,
                "name": name,
                "created_ns": time.time_ns(),
                "image": request.image,
                "image_digest": request.image_digest,
                "store": str(request.store.absolute()),
                "auto_remove": request.auto_remove,
                "labels": dict(request.labels),
                "spec": spec_document(spec),
            }
            new.path.mkdir(mode=0o700)
            try:
                make_scratch(new.path, spec)
                write_private(new.path / MACHINE_FILE, document)
                store = Store(request.store)
                kept = [link.stem for link in spec.chain if link.parent == store.links]
                pin(store, machine, [spec.boot.id, *kept], holder=final.path)
                Volumes(self.machines.parent).attach(machine, name, spec.volumes)
                new.path.rename(final.path)
            except BaseException:
                with suppress(OSError):
                    Volumes(self.machines.parent).detach(machine, remove_anonymous=True)
                shutil.rmtree(new.path, ignore_errors=True)
                raise
        return _record(final, document, whole=False)

    def _names(self) -> Iterator[tuple[str, str]]:
        for folder in self._folders():
            with suppress(SaltflatError, KeyError):
                yield str(folder.machine()["name"]), folder.id

    def _folders(self) -> Iterator[MachineFolder]:
        for path in sorted(self.machines.iterdir()):
            if ID.fullmatch(path.name):
                yield MachineFolder(path)

    # --- looking ---------------------------------------------------------------------------------

    def list(self) -> tuple[MachineRecord, ...]:
        """Return all machines, the newest first."""
        found = []
        for folder in self._folders():
            with suppress(NotFoundError):  # removed meanwhile
                found.append(self.record(folder))
        return tuple(sorted(found, key=lambda record: (-record.created_ns, record.id)))

    def find(self, name: str) -> MachineRecord:
        """Return the machine of this name, id, or beginning of an id, as Machines.find does."""
        if ID.fullmatch(name) and (self.machines / name).is_dir():
            return self.record(self.folder(name), whole=True)
        by_name = dict(self._names())
        if name in by_name:
            return self.record(self.folder(by_name[name]), whole=True)
        folders = [folder for folder in self._folders() if folder.id.startswith(name)]
        if not _ID_PREFIX.fullmatch(name) or not folders:
            raise no_machine(name)
        if len(folders) > 1:
            records = [self.record(folder) for folder in folders]
            candidates = ", ".join(f"{record.short_id} ({record.name})" for record in records)
            raise UsageError(
                f"Several machines' ids begin with {name}: {candidates}.",
                expected="a name, or enough of an id to tell it from the others",
            )
        return self.record(folders[0], whole=True)

    def record(self, folder: MachineFolder, *, whole: bool = False) -> MachineRecord:
        """Return what can be told of a machine; what takes its time only if `whole`.

        Raises NotFoundError.
        """
        if not (folder.path / MACHINE_FILE).exists() and not folder.path.is_dir():
            raise no_machine(folder.id)
        try:
            return _record(folder, folder.machine(), whole=whole)
        except (NotFoundError, SaltflatError, ValueError, KeyError, TypeError) as error:
            if not folder.path.is_dir():
                raise no_machine(folder.id) from None
            return MachineRecord(
                id=folder.id,
                name=folder.id[:_HOSTNAME_DIGITS],
                status=Status.DEAD,
                image="",
                image_digest="",
                created_ns=folder.path.stat().st_mtime_ns,
                reason=f"its folder is damaged: {error}",
                details={"folder": str(folder.path)},
            )


def _check_free(name: str, names: Mapping[str, str]) -> None:
    check_name(name)
    if name in names:
        raise UsageError(
            f"The name {name} is taken by machine {names[name]}.",
            hint="Choose another one, or remove that machine with saltflat rm.",
        )


def _record(folder: MachineFolder, document: dict[str, Any], *, whole: bool) -> MachineRecord:
    if document["schema"] != MACHINE_SCHEMA:
        raise ValueError(f"a machine of schema {document['schema']!r}")
    state = look(folder)
    life = state.life
    spec = read_spec(document["spec"])
    runs = state.status is Status.RUNNING
    waits = runs and life.waits
    health = life.health
    if health is None and runs and spec.guest.checks_health:
        health = HealthReport("starting")  # of which the guest says nothing before it has booted
    qemu = folder.living_qemu()
    owner = folder.supervisor()
    return MachineRecord(
        id=folder.id,
        name=str(document["name"]),
        status=state.status,
        image=str(document["image"]),
        image_digest=str(document["image_digest"]),
        created_ns=int(document["created_ns"]),
        started_ns=state.started_ns if life.started_ns is None else life.started_ns,
        finished_ns=life.ended_ns if waits else state.finished_ns,
        end=reported_status(life.end) if waits else state.end,
        reason=state.reason,
        supervised=owner is not None,
        auto_remove=document["auto_remove"] is True,
        labels={str(name): str(value) for name, value in document["labels"].items()},
        restarts=life.restarts,
        restarting=waits,
        health=health,
        spec=spec,
        ports=_ports(folder) if runs else (),
        network=_network(folder) if runs and whole else None,
        details={
            "driver": "qemu",
            "folder": str(folder.path),
            "store": str(document["store"]),
            "hypervisor_pid": None if qemu is None else qemu.pid,
            "supervisor_pid": None if owner is None else owner.mark.pid,
            "hypervisor_exit": state.hypervisor_exit,
        },
    )


def _ports(folder: MachineFolder) -> tuple[Binding, ...]:
    """Return the ports of this host that the last start has given to the machine."""
    try:
        started = json.loads((folder.path / START_FILE).read_bytes())
    except FileNotFoundError:
        return ()
    return tuple(map(read_binding, started.get("ports", ())))


def _network(folder: MachineFolder) -> Mapping[str, Any] | None:
    """Return what the guest of a machine that runs says of its network, None if nothing yet."""
    try:
        return client.saved_network(folder.relay)
    except ValueError:  # of another version's relay
        return None
