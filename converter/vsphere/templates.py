"""Templates: an image's disk as a machine that others are cloned of. Finds them, makes them, once.

What a template is stands on it, in its extra configuration (`marks`); that it is whole is told by
its snapshot, which is made last. So whoever looks at a server knows what is there, whatever was
killed when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from converter.errors import HypervisorError, SaltflatError
from converter.events import Monitor, Note, StepAdvanced, StepFinished, StepStarted
from converter.vsphere.c_vsphere import VIRTUAL_MACHINE
from converter.vsphere.connection import Connection, import_parameters, option_values, type_name
from converter.vsphere.faults import TRANSPORT_ERRORS, from_fault, from_transport
from converter.vsphere.lease import Lease
from converter.vsphere.placement import Placement, Provisioning
from converter.vsphere.upload import destination, send_disk

DISK_MARK = "saltflat.disk"  # the mark that tells one disk from another
_ATTEMPTS = 3
# What is worth another attempt: a line that broke, a lease that ended. Not a wrong certificate.
_PASSING = frozenset({"unreachable", "no-answer", "object-gone"})
_TASK_SECONDS = 600.0
_ADVANCE_BYTES = 32 << 20  # between two events
_STEP = "upload"


@dataclass(frozen=True, slots=True)
class Disk:
    """A streamOptimized disk to be sent, and the descriptor (OVF) of the machine that gets it."""

    file: BinaryIO
    size_bytes: int
    sha1: str
    descriptor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What is to be there. `network` is the descriptor's name for the one that machines are on."""

    name: str
    marks: Mapping[str, str]
    snapshot: str
    network: str
    provisioning: Provisioning
    make_disk: Callable[[], AbstractContextManager[Disk]]


@dataclass(frozen=True, slots=True)
class Made:
    """A template that is there. `sent` is None for one that was there already."""

    machine: str  # its id
    sent: Disk | None = None
    is_compared: bool = False


def import_template(
    connection: Connection,
    placement: Placement,
    template: Template,
    *,
    replace: bool,
    monitor: Monitor,
) -> Made:
    """Make a template, unless it is there. With `replace`, one that is unfinished is removed first.

    Raises HypervisorError if something else has the name, and what the steps raise. Whatever is
    raised, nothing is left behind but what the server could not be told to remove.
    """
    folder: Any = placement.folder.reference
    with connection.doing(f"look for {template.name}"):
        there = connection.content.searchIndex.FindChild(folder, template.name)
    if there is not None:
        if _is_whole(connection, there, template):
            _mark(connection, there)
            return Made(there._moId)
        if not replace:
            raise HypervisorError(
                f"{template.name} is there, but unfinished: an import of it runs, or was killed.",
                hint="If no other import is at work, --replace removes it and begins anew.",
                cause="unfinished",
            )
        _remove(connection, there)
    with template.make_disk() as disk:
        machine, is_compared = _fill(connection, placement, template, disk, monitor)
        try:
            task = machine.CreateSnapshot_Task(
                template.snapshot, "What machines are cloned of.", False, False
            )
            connection.wait(task, doing="make the snapshot", timeout_seconds=_TASK_SECONDS)
        except BaseException:
            _remove_quietly(connection, machine)
            raise
        _mark(connection, machine)
        return Made(machine._moId, disk, is_compared)


def _is_whole(connection: Connection, machine: object, template: Template) -> bool:
    """Say whether a template is finished. Raises HypervisorError if it is not the one meant."""
    about: Mapping[str, Any] = {}
    if type_name(machine) == VIRTUAL_MACHINE:  # folders and virtual apps have names there, too
        about = connection.properties(machine, ["config.extraConfig", "snapshot.rootSnapshotList"])
    marks = {one.key: one.value for one in about.get("config.extraConfig", ())}
    if marks.get(DISK_MARK) != template.marks[DISK_MARK]:
        raise HypervisorError(
            f"{template.name} is there already, and is not this disk.",
            expected="a template of the same image, made with the same options",
            hint="Choose another --name or --folder, or remove what has the name.",
            cause="name-taken",
        )
    return any(one.name == template.snapshot for one in about.get("snapshot.rootSnapshotList", ()))


def _fill(
    connection: Connection,
    placement: Placement,
    template: Template,
    disk: Disk,
    monitor: Monitor,
) -> tuple[Any, bool]:
    """Make the machine and send its disk, again from the beginning if the way there breaks."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _attempt(connection, placement, template, disk, monitor)
        except SaltflatError as error:
            if attempt == _ATTEMPTS or error.cause not in _PASSING:
                raise
            monitor(Note(f"{error.what} Beginning anew.", warning=True))
    raise AssertionError("the last attempt returns or raises")


def _attempt(
    connection: Connection,
    placement: Placement,
    template: Template,
    disk: Disk,
    monitor: Monitor,
) -> tuple[Any, bool]:
    spec, key = _import_spec(connection, placement, template, disk)
    host = placement.resources.host
    pool: Any = placement.resources.pool.reference
    with connection.doing(f"make the machine {template.name}"):
        reference = pool.ImportVApp(
            spec, placement.folder.reference, None if host is None else host.reference
        )
    lease = Lease(connection, reference)
    try:
        url, thumbprint = lease.disk_url(key)
        to = destination(url, thumbprint, connection.settings)
        monitor(StepStarted(_STEP, disk.size_bytes))
        shown = 0

        def told(sent: int) -> None:
            nonlocal shown
            lease.tell(100 * sent // disk.size_bytes)
            if sent - shown >= _ADVANCE_BYTES:
                shown = sent
                monitor(StepAdvanced(_STEP, sent))

        with lease.kept_alive():
            try:
                send_disk(
                    to,
                    disk.file,
                    disk.size_bytes,
                    timeout_seconds=connection.settings.timeout_seconds,
                    told=told,
                )
            except TRANSPORT_ERRORS as error:
                raise from_transport(error, url=f"https://{to}", doing="take the disk") from error
        is_compared = lease.compare(disk.size_bytes, disk.sha1)
        lease.complete()
    except BaseException:
        lease.abort()
        _remove_quietly(connection, lease.machine)  # what the server did not remove by itself
        raise
    monitor(StepFinished(_STEP, f"{disk.size_bytes / 1e6:,.1f} MB"))
    return lease.machine, is_compared


def _import_spec(
    connection: Connection, placement: Placement, template: Template, disk: Disk
) -> tuple[Any, str]:
    """Let the server make of the descriptor what it takes; return that, and the disk's key."""
    host = placement.resources.host
    parameters = import_parameters(
        name=template.name,
        networks={template.network: placement.network.reference},
        provisioning=template.provisioning,
        host=None if host is None else host.reference,
    )
    with connection.doing("read the machine's description"):
        made = connection.content.ovfManager.CreateImportSpec(
            disk.descriptor,
            placement.resources.pool.reference,
            placement.datastore.reference,
            parameters,
        )
    if made.error:
        raise from_fault(
            made.error[0], doing="make the machine as described", named=connection.name_of
        )
    configuration = made.importSpec.configSpec
    configuration.extraConfig = [
        *(configuration.extraConfig or ()),
        *option_values(template.marks),
    ]
    return made.importSpec, str(made.fileItem[0].deviceId)


def _mark(connection: Connection, machine: Any) -> None:  # noqa: ANN401 - pyvmomi's own
    """Make it a template in vCenter's eyes, which nobody can start; hosts alone have none."""
    if not connection.about.is_vcenter:
        return
    if connection.properties(machine, ["config.template"]).get("config.template"):
        return
    with connection.doing("mark the template"):
        machine.MarkAsTemplate()


def _remove(connection: Connection, machine: Any) -> None:  # noqa: ANN401 - pyvmomi's own
    with connection.doing("remove the unfinished machine"):
        task = machine.Destroy_Task()
    connection.wait(task, doing="remove the unfinished machine", timeout_seconds=_TASK_SECONDS)


def _remove_quietly(connection: Connection, machine: Any) -> None:  # noqa: ANN401 - pyvmomi's own
    with suppress(SaltflatError):
        _remove(connection, machine)
