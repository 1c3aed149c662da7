"""Virtual machines of ours on a server: find, change, switch on and off, destroy.

What a machine is stands on it as extra configuration (vm.py). An object that is gone is a
NotFoundError with the cause object-gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from converter.errors import HypervisorError, NotFoundError, SaltflatError
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, option_values, type_name, vim
from converter.vsphere.vm import Vm

_TASK_SECONDS = 600.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_PATHS = (
    *("name", "parent", "config.extraConfig", "config.instanceUuid", "config.createDate"),
    *("config.template", "runtime.powerState", "snapshot.rootSnapshotList", "recentTask"),
)


def vms_below(connection: Connection, folder: object | None = None) -> Iterator[Vm]:
    """Yield the virtual machines in a folder and those below it; of the whole server without."""
    for found in connection.everything({c.VIRTUAL_MACHINE: _PATHS}, below=folder):
        yield _vm(found.reference, found.values)


def vm_called(connection: Connection, folder: Any, name: str) -> Vm | None:  # noqa: ANN401 - pyvmomi's own
    """Return the virtual machine of a name right in a folder; names there are unique."""
    with connection.doing(f"look for {name}"):
        found = connection.content.searchIndex.FindChild(folder, name)
    return _look(connection, found)


def vm_with_uuid(connection: Connection, instance_uuid: str) -> Vm | None:
    """Return the virtual machine with this config.instanceUuid, wherever it is."""
    with connection.doing("look for a machine"):
        found = connection.content.searchIndex.FindByUuid(
            uuid=instance_uuid, vmSearch=True, instanceUuid=True
        )
    return _look(connection, found)


def look(connection: Connection, reference: Any) -> Vm:  # noqa: ANN401 - pyvmomi's own
    """Return a virtual machine as it is now. Raises NotFoundError when it is gone."""
    return _vm(reference, connection.properties(reference, _PATHS))


def has_running_task(connection: Connection, vm: Vm) -> bool:
    """Say whether the server is at work on a machine."""
    for task in vm.tasks:
        with suppress(NotFoundError):  # servers forget tasks some time after their end
            if connection.properties(task, ["info.state"]).get("info.state") in c.TASK_RUNNING:
                return True
    return False


def set_extra(connection: Connection, vm: Vm, values: Mapping[str, str]) -> None:
    """Change extra configuration; an empty value removes what was there."""
    doing = f"change the machine {vm.name}"
    with connection.doing(doing):
        task = vm.reference.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=option_values(values)))
    connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)


def power_on(connection: Connection, vm: Vm) -> None:
    """Switch a machine on, or have a suspended one go on; nothing if it is on already."""
    doing = f"start the machine {vm.name}"
    with _unless_so(), connection.doing(doing):
        task = vm.reference.PowerOnVM_Task()
        connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)


def power_off(connection: Connection, vm: Vm) -> None:
    """Cut a machine's power; nothing if it is off already."""
    doing = f"cut the power of the machine {vm.name}"
    with _unless_so(), connection.doing(doing):
        task = vm.reference.PowerOffVM_Task()
        connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)


def shut_guest_down(connection: Connection, vm: Vm) -> bool:
    """Have the guest's agent end it, by the server's own way to it; say whether it was asked."""
    try:
        with connection.doing(f"have the guest of {vm.name} end"):
            vm.reference.ShutdownGuest()
    except NotFoundError:
        raise
    except SaltflatError:  # it does not run any more, or no agent answers the server
        return False
    return True


def wait_until_off(connection: Connection, vm: Vm, seconds: float | None) -> bool:
    """Wait until a machine is off or gone; say whether it is, after `seconds` at most.

    Asks again and again, which needs nothing of the server's that a new login would lose.
    """
    end = None if seconds is None else time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            about = connection.properties(vm.reference, ["runtime.powerState"])
        except NotFoundError:
            return True
        if about.get("runtime.powerState") == c.POWERED_OFF:
            return True
        left = pause if end is None else end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def destroy(connection: Connection, vm: Vm) -> None:
    """Remove a machine and its own disk. Raises NotFoundError when it is gone already."""
    doing = f"remove the machine {vm.name}"
    with connection.doing(doing):
        task = vm.reference.Destroy_Task()
    connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)


def server_time(connection: Connection) -> datetime:
    """Return the server's clock, which its own dates are by."""
    with connection.doing("tell the time"):
        return _aware(connection.service_time())


@contextmanager
def _unless_so() -> Iterator[None]:
    """Pass over the fault of a machine that is in the wanted state already."""
    try:
        yield
    except HypervisorError as error:
        if error.cause != "power-state":
            raise


def _look(connection: Connection, found: Any) -> Vm | None:  # noqa: ANN401 - pyvmomi's own
    if found is None or type_name(found) != c.VIRTUAL_MACHINE:
        return None
    try:
        return _vm(found, connection.properties(found, _PATHS))
    except NotFoundError:  # removed meanwhile
        return None


def _vm(reference: Any, values: Mapping[str, Any]) -> Vm:  # noqa: ANN401 - pyvmomi's own
    created = values.get("config.createDate")
    return Vm(
        reference=reference,
        id=str(reference._moId),
        name=str(values.get("name", reference._moId)),
        folder=str(values["parent"]._moId) if "parent" in values else "",
        extra={one.key: str(one.value) for one in values.get("config.extraConfig", ())},
        instance_uuid=str(values.get("config.instanceUuid", "")).lower(),
        is_suspended=values.get("runtime.powerState") == c.SUSPENDED,
        is_on=values.get("runtime.powerState", c.POWERED_OFF) != c.POWERED_OFF,
        is_template=values.get("config.template") is True,
        created=None if created is None else _aware(created),
        snapshots=frozenset(one.name for one in values.get("snapshot.rootSnapshotList", ())),
        tasks=tuple(values.get("recentTask", ())),
    )


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
