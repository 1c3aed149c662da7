"""What nobody needs any more on a server, and how it goes without harming who is at work.

There is no lock that all clients have. So what may be another client's work in progress has to be
old, by the server's clock, and is looked at once more before it goes:

- a machine that removes itself and does not run, noted on itself when it was first seen so;
- a template without its snapshot, on which the server is not at work and of which nothing was
  cloned;
- a boot medium that no machine on the server has, if the session may see all machines; and pieces
  of media that were never finished.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from converter.errors import HypervisorError, NotFoundError, SaltflatError, UsageError
from converter.vsphere import c_marks as marks
from converter.vsphere.c_vsphere import SEE_ALL_PRIVILEGE
from converter.vsphere.connection import Connection
from converter.vsphere.datastore_files import PART, DatastoreFiles
from converter.vsphere.privileges import granted
from converter.vsphere.standing import clone_of, remove_unfinished
from converter.vsphere.vm import Vm, is_import, machine_id
from converter.vsphere.vms import has_running_task, look, server_time, set_extra, vms_below

_NONCE_BYTES = 6


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that nobody needs. `is_due`: it has been so for the whole grace.

    `kind` is machine, template or medium.
    """

    kind: str
    name: str
    why: str
    is_due: bool
    vm: Vm | None = field(default=None, compare=False, repr=False)
    files: DatastoreFiles | None = field(default=None, compare=False, repr=False)


def find_leftovers(
    connection: Connection,
    folder: Any,  # noqa: ANN401 - pyvmomi's own
    stores: Sequence[DatastoreFiles],
    grace: timedelta,
) -> Iterator[Leftover]:
    """Yield the leftovers in the folder of machines and on datastores; changes nothing."""
    now = server_time(connection)
    for vm in vms_below(connection, folder):
        found = _machine(vm, now, grace)
        if found is None and vm.folder == folder._moId:  # where names are unique
            found = _template(connection, vm, now, grace)
        if found is not None:
            yield found
    used = _used_media(connection)
    sees_all = _sees_all(connection)
    for files in stores:
        try:
            listed = list(files.listing(marks.BOOT_FOLDER))
        except SaltflatError as error:  # out of reach; the others are not
            yield Leftover("medium", files.full(marks.BOOT_FOLDER), error.what, False)
            continue
        for file in listed:
            path = f"{marks.BOOT_FOLDER}/{file.name}"
            unfinished = PART in file.name or marks.UNUSED in file.name
            if unfinished or files.full(path) not in used:
                why = "a piece of a boot medium" if unfinished else "no machine starts from it"
                due = now - file.modified >= grace
                if not sees_all and PART not in file.name:
                    why, due = "machines that this user does not see may start from it", False
                yield Leftover("medium", files.full(path), why, due, files=files)


def note(connection: Connection, leftover: Leftover) -> None:
    """Write on a machine that nobody needs it, if that is not written there: its grace begins."""
    vm = leftover.vm
    if leftover.kind == "machine" and vm is not None and _noted(vm) is None:
        noted = f"{server_time(connection).isoformat()} {vm.extra.get(marks.STARTED, '')}"
        with suppress(NotFoundError):
            set_extra(connection, vm, {marks.NOTED: noted})


def remove(
    connection: Connection, leftover: Leftover, remove_machine: Callable[[Vm], None]
) -> bool:
    """Remove a leftover; say whether it was one still, and is gone by us.

    `remove_machine` is how a machine goes with all that belongs to it elsewhere.
    """
    try:
        if leftover.files is not None:
            return _remove_medium(connection, leftover.files, leftover.name)
        assert leftover.vm is not None
        vm = look(connection, leftover.vm.reference)
        started_again = any(
            vm.extra.get(mark) != leftover.vm.extra.get(mark)
            for mark in (marks.NOTED, marks.STARTED)
        )
        if vm.is_on or started_again:
            return False
        if leftover.kind == "machine":
            remove_machine(vm)
        elif is_import(vm) and not has_running_task(connection, vm):
            remove_unfinished(connection, vm)
        else:
            return False
    except (NotFoundError, UsageError):  # removed, or started, meanwhile
        return False
    return True


def _machine(vm: Vm, now: datetime, grace: timedelta) -> Leftover | None:
    if machine_id(vm) is None or vm.extra.get(marks.AUTO_REMOVE) != marks.YES or vm.is_on:
        return None
    why = "it removes itself and has ended"
    if marks.STARTED not in vm.extra:
        why = "it removes itself and was never started"
    noted = _noted(vm)
    due = not grace or (noted is not None and now - noted >= grace)
    return Leftover("machine", vm.name, why, due, vm=vm)


def _noted(vm: Vm) -> datetime | None:
    """Return since when nobody needs a machine, by what is written on it for its last run.

    What was written for an earlier one came too late: it was being started again.
    """
    moment, _, run = vm.extra.get(marks.NOTED, "").partition(" ")
    with suppress(ValueError):
        noted = datetime.fromisoformat(moment)
        if noted.tzinfo is not None and run == vm.extra.get(marks.STARTED, ""):
            return noted
    return None


def _template(connection: Connection, vm: Vm, now: datetime, grace: timedelta) -> Leftover | None:
    if not is_import(vm):
        return None
    clone = clone_of(connection, vm)
    if clone is not None:
        why = f"its snapshot is gone, but {clone} was cloned of it"
        return Leftover("template", vm.name, why, False, vm=vm)
    due = vm.created is not None and now - vm.created >= grace
    due = due and not has_running_task(connection, vm)
    return Leftover("template", vm.name, "its import did not end", due, vm=vm)


def _sees_all(connection: Connection) -> bool:
    """Say whether the session may see all that is on the server, as far as the server tells."""
    with suppress(SaltflatError):
        root = connection.content.rootFolder
        return SEE_ALL_PRIVILEGE in granted(connection, root, [SEE_ALL_PRIVILEGE])
    return False


def _used_media(connection: Connection) -> frozenset[str]:
    """Return the media of all machines of the server, whoever made them."""
    return frozenset(vm.extra[marks.BOOT] for vm in vms_below(connection) if marks.BOOT in vm.extra)


def _remove_medium(connection: Connection, files: DatastoreFiles, full: str) -> bool:
    """Delete a medium, unless a machine has it by now.

    Whoever makes a machine looks for its medium behind that again (converter.machine.vsphere). So
    either it finds none under the name and sends another one, or we see its machine here.
    """
    path = full.partition("] ")[2]
    wanted, set_aside, _nonce = path.partition(marks.UNUSED)
    if set_aside and files.full(wanted) in _used_media(connection) and files.size(wanted) is None:
        files.rename(path, wanted)  # whoever set it aside was killed before it could do that
        return False
    if PART in path or set_aside:
        files.delete(path)
        return True
    if full in _used_media(connection):  # by now: so nobody who starts it finds it set aside
        return False
    aside = f"{path}{marks.UNUSED}{secrets.token_hex(_NONCE_BYTES)}"
    files.rename(path, aside)
    if full not in _used_media(connection):
        files.delete(aside)
        return True
    try:
        files.rename(aside, path)
    except HypervisorError as error:
        if error.cause != "name-taken":
            raise
        files.delete(aside)  # another one was sent meanwhile
    return False
