"""What stands under a template's name already: that template, one that is unfinished, or another.

Owns how they are told apart, how another client's import is waited for, and when what a killed one
has left may go. An import gives its machine an `instanceUuid` of its own (vm.import_id), so what
somebody has cloned of a template, marks and all, is not taken for one.
"""

from __future__ import annotations

import time
from typing import Any

from converter.errors import HypervisorError, NotFoundError
from converter.events import Monitor, Note
from converter.vsphere import c_marks as marks
from converter.vsphere.c_vsphere import VIRTUAL_MACHINE
from converter.vsphere.connection import Connection, type_name
from converter.vsphere.vm import Vm, import_id, is_import, machine_id
from converter.vsphere.vms import destroy, look, vms_below

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


def find_standing(connection: Connection, folder: object, name: str) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return what has a name right in a folder of machines, None if nothing has."""
    with connection.doing(f"look for {name}"):
        return connection.content.searchIndex.FindChild(folder, name)


def whole_template(
    connection: Connection,
    folder: object,
    name: str,
    *,
    disk: str,
    snapshot: str,
    wait_seconds: float,
    replace: bool,
    monitor: Monitor,
) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return the whole template of this name, disk and snapshot; None if nothing has the name.

    One that is unfinished is waited for, `wait_seconds` at most, since another client may be at
    work on it; or removed at once, with `replace`. Raises HypervisorError with the cause
    name-taken for anything else under the name, and unfinished.
    """
    end = time.monotonic() + wait_seconds
    pause, is_told = _FIRST_PAUSE_SECONDS, False
    while True:
        reference = find_standing(connection, folder, name)
        if reference is None:
            return None
        try:
            vm = _standing(connection, reference, name, disk)
            if snapshot in vm.snapshots:
                return reference
            _check_unfinished(vm)
            if replace:
                remove_unfinished(connection, vm)
                return None
        except NotFoundError:  # it was removed, or has removed itself
            continue
        left = end - time.monotonic()
        if left <= 0:
            raise HypervisorError(
                f"{name} is there, but unfinished: an import of it runs, or was killed.",
                hint="If no other import is at work: saltflat vsphere import --replace removes it "
                "and begins anew.",
                cause="unfinished",
            )
        if not is_told:
            is_told = True
            monitor(
                Note(
                    f"{name} is unfinished: it is waited for, {wait_seconds:g} seconds at most. "
                    "If no other import is at work, import --replace begins anew."
                )
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def remove_unfinished(connection: Connection, vm: Vm) -> None:
    """Remove what an import has left, unless machines were cloned of it: so it was whole once.

    Raises HypervisorError with the cause name-taken if they were, NotFoundError when it is gone.
    """
    clone = clone_of(connection, vm)
    if clone is not None:
        raise HypervisorError(
            f"{vm.name} has lost its snapshot, and {clone} was cloned of it.",
            hint="Remove it by hand, if that machine does not stand on its disk.",
            cause="name-taken",
        )
    destroy(connection, vm)


def clone_of(connection: Connection, vm: Vm) -> str | None:
    """Return the name of a machine that was made of what an import has made, None if none was."""
    mark = import_id(vm)
    names = [
        other.name
        for other in vms_below(connection)
        if other.id != vm.id and mark is not None and other.extra.get(marks.IMPORT) == mark
    ]
    return min(names, default=None)


def _standing(connection: Connection, reference: object, name: str, disk: str) -> Vm:
    """Return the virtual machine with the disk. Raises HypervisorError for anything else."""
    # Folders and virtual apps have names there, too; and machines of ours have inherited marks.
    if type_name(reference) == VIRTUAL_MACHINE:
        vm = look(connection, reference)
        if vm.extra.get(marks.DISK) == disk and machine_id(vm) is None:
            return vm
    raise HypervisorError(
        f"{name} is there already, and is not this disk.",
        expected="a template of the same image, made with the same options",
        hint="Choose another --name or --folder, or remove what has the name.",
        cause="name-taken",
    )


def _check_unfinished(vm: Vm) -> None:
    """Raise HypervisorError unless a machine without the snapshot is one that an import makes."""
    if not is_import(vm):
        raise HypervisorError(
            f"{vm.name} is there already, and is no template: it was cloned of one, or changed.",
            expected="a template of the same image, with its snapshot",
            hint="Choose another --name or --folder, or remove what has the name.",
            cause="name-taken",
        )
