"""New machines on a template's disk, which stays as it is: the server makes a child of it.

vCenter clones a template's snapshot. A host without vCenter has no clones, but makes children of
disks, too (as govmomi's `VirtualDeviceList.ChildDisk` asks for one). Either way one request makes
all of the machine, so one that is there is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converter.errors import HypervisorError
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, option_values, vim
from converter.vsphere.placement import Placement
from converter.vsphere.vm import Vm
from converter.vsphere.vms import look

_TASK_SECONDS = 600.0
_CONTROLLER_KEY, _DISK_KEY = -201, -202  # of devices that are being added


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """What a machine is to be. `devices` are changes to what `inherited_devices` are there."""

    name: str
    uuid: str
    processors: int
    memory_mib: int
    extra: Mapping[str, str] = field(repr=False)
    devices: Sequence[Any]


def inherited_devices(connection: Connection, template: Any) -> Sequence[Any]:  # noqa: ANN401 - pyvmomi's own
    """Return the devices that a machine has of its template: all on vCenter, else none."""
    return _devices(connection, template) if connection.about.is_vcenter else ()


def make_clone(connection: Connection, template: Any, placement: Placement, wanted: Clone) -> Vm:  # noqa: ANN401 - pyvmomi's own
    """Make a machine with a child of a template's disk; return it.

    Raises HypervisorError when the template has no snapshot, with the cause name-taken when the
    name is.
    """
    paths = ["snapshot.currentSnapshot"]
    snapshot = connection.properties(template, paths).get(*paths)
    if snapshot is None:
        raise HypervisorError(
            f"The template for {wanted.name} has no snapshot to clone: it is unfinished.",
            hint="saltflat vsphere import --replace makes it anew.",
            cause="unfinished",
        )
    folder: Any = placement.folder.reference
    doing = f"make the machine {wanted.name}"
    if connection.about.is_vcenter:
        specification = _clone_spec(snapshot, placement, wanted)
        with connection.doing(doing):
            task = template.CloneVM_Task(folder, wanted.name, specification)
    else:
        configuration = _machine_on_child(connection, template, snapshot, placement, wanted)
        pool, host = placement.resources.pool, placement.resources.host
        with connection.doing(doing):
            task = folder.CreateVM_Task(
                configuration, pool.reference, None if host is None else host.reference
            )
    made = connection.wait(task, doing=doing, timeout_seconds=_TASK_SECONDS)
    return look(connection, made)


def _clone_spec(snapshot: Any, placement: Placement, wanted: Clone) -> Any:  # noqa: ANN401 - pyvmomi's own
    host, policy = placement.resources.host, placement.policy
    return vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(
            diskMoveType=c.CHILD_DISK,
            pool=placement.resources.pool.reference,
            datastore=placement.datastore.reference,
            host=None if host is None else host.reference,
            profile=[] if policy is None else [vim.vm.DefinedProfileSpec(profileId=policy)],
        ),
        snapshot=snapshot,
        template=False,
        powerOn=False,
        config=_config(wanted, wanted.devices),
    )


def _machine_on_child(
    connection: Connection,
    template: object,
    snapshot: object,
    placement: Placement,
    wanted: Clone,
) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return the specification of a machine whose disk is a child of the snapshot's."""
    (parent,) = [one for one in _devices(connection, snapshot) if _is_disk(one)]
    guest = connection.properties(template, ["config.guestId", "config.version"])
    place = f"[{placement.datastore.name}]"
    controller = vim.vm.device.ParaVirtualSCSIController(
        key=_CONTROLLER_KEY, busNumber=0, sharedBus="noSharing"
    )
    disk = vim.vm.device.VirtualDisk(
        key=_DISK_KEY,
        controllerKey=_CONTROLLER_KEY,
        unitNumber=0,
        capacityInKB=parent.capacityInKB,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=place,
            datastore=placement.datastore.reference,
            diskMode="persistent",
            thinProvisioned=True,
            parent=parent.backing,
        ),
    )
    change = vim.vm.device.VirtualDeviceSpec
    configuration = _config(
        wanted,
        [
            change(operation="add", device=controller),
            change(operation="add", fileOperation="create", device=disk),
            *wanted.devices,
        ],
    )
    configuration.name = wanted.name
    configuration.uuid = wanted.uuid  # which such a host says to a concentrator
    configuration.guestId = guest.get("config.guestId")
    configuration.version = guest.get("config.version")
    configuration.files = vim.vm.FileInfo(vmPathName=place)
    return configuration


def _config(wanted: Clone, devices: Sequence[Any]) -> Any:  # noqa: ANN401 - pyvmomi's own
    return vim.vm.ConfigSpec(
        instanceUuid=wanted.uuid,
        numCPUs=wanted.processors,
        memoryMB=wanted.memory_mib,
        firmware=c.EFI,
        extraConfig=option_values(wanted.extra),
        deviceChange=list(devices),
    )


def _devices(connection: Connection, thing: object) -> Sequence[Any]:
    """Return the devices of a machine, or of a machine as a snapshot has it."""
    found = connection.properties(thing, ["config.hardware.device"])
    return tuple(found.get("config.hardware.device", ()))


def _is_disk(device: object) -> bool:
    return isinstance(device, vim.vm.device.VirtualDisk)
