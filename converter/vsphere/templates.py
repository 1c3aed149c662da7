"""Templates: an image's disk as a machine that others are cloned of. Finds them, makes them, once.

What a template is stands on it, in its extra configuration (`marks`); that it is whole is told by
its snapshot, which is made last. So whoever looks at a server knows what is there, whatever was
killed when.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from converter.errors import HypervisorError, SaltflatError
from converter.events import Monitor, Note, StepAdvanced, StepFinished, StepStarted
from converter.vsphere import c_marks
from converter.vsphere.connection import Connection, import_parameters
from converter.vsphere.faults import TRANSPORT_ERRORS, from_fault, from_transport
from converter.vsphere.lease import Lease
from converter.vsphere.machine_spec import add_adapter, add_marks, add_storage_policy
from converter.vsphere.placement import Placement, Provisioning
from converter.vsphere.standing import find_standing, whole_template
from converter.vsphere.upload import Destination, Sent, destination, send_disk
from converter.vsphere.vm import uuid_of
from converter.vsphere.vms import destroy, vm_called

_IMPORT_BYTES = 16  # of a UUID
_ATTEMPTS = 3
# What is worth another attempt: a line that broke, a lease that ended. Not a wrong certificate.
_PASSING = frozenset({"unreachable", "no-answer", "object-gone"})
_TASK_SECONDS = 600.0
_ADVANCE_BYTES = 32 << 20  # between two events
_STEP = "upload"


class Stream(Protocol):
    """A streamOptimized disk that can be written now; None for a size that is not known."""

    @property
    def size_bytes(self) -> int | None: ...

    @property
    def write(self) -> Callable[[BinaryIO], None]: ...


class Disk(Protocol):
    """A disk by its name in the descriptor. Opened for each attempt to send it."""

    @property
    def name(self) -> str: ...

    @property
    def open(self) -> Callable[[], AbstractContextManager[Stream]]: ...


class Content(Protocol):
    """A machine's descriptor (OVF) and its disks, each behind the one that it stands on."""

    @property
    def descriptor(self) -> str: ...

    @property
    def disks(self) -> Sequence[Disk]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What is to be there. `network` is the descriptor's name for the one that machines are on.

    `ways` are the forms in which the disk can be had. The first one that the server takes is sent.
    """

    name: str
    marks: Mapping[str, str]
    snapshot: str
    network: str
    provisioning: Provisioning
    ways: Sequence[Callable[[], AbstractContextManager[Content]]]


@dataclass(frozen=True, slots=True)
class Made:
    """A template that is there. Nothing was `sent` for one that was there already."""

    machine: str  # its id
    sent: Sequence[Sent] = ()
    is_compared: bool = False


def import_template(
    connection: Connection,
    placement: Placement,
    template: Template,
    *,
    replace: bool,
    wait_seconds: float,
    monitor: Monitor,
) -> Made:
    """Make a template, unless it is there. With `replace`, one that is unfinished is removed first.

    Otherwise it is waited for, `wait_seconds` at most: another client may be making it. Raises
    HypervisorError if something else has the name, and what the steps raise. Whatever is raised,
    nothing is left behind but what the server could not be told to remove.
    """
    folder: Any = placement.folder.reference
    while True:
        there = whole_template(
            connection,
            folder,
            template.name,
            disk=template.marks[c_marks.DISK],
            snapshot=template.snapshot,
            wait_seconds=wait_seconds,
            replace=replace,
            monitor=monitor,
        )
        if there is not None:
            _mark(connection, there)
            return Made(there._moId)
        try:
            return _begin(connection, placement, template, monitor)
        except HypervisorError as error:
            if error.cause != "name-taken":
                raise
            if find_standing(connection, folder, template.name) is None:
                raise  # it is something else whose name is taken
        replace = False  # another client was faster, whose work it is


def _begin(
    connection: Connection, placement: Placement, template: Template, monitor: Monitor
) -> Made:
    """Make a template where nothing has its name."""
    marks = {**template.marks, c_marks.IMPORT: secrets.token_hex(_IMPORT_BYTES)}
    template = dataclasses.replace(template, marks=marks)
    for number, way in enumerate(template.ways, 1):
        with way() as content:
            made = _make(connection, placement, template, content, monitor)
        if made is not None:
            return made
        if number < len(template.ways):
            monitor(Note("vSphere takes no disks that stand on others here: it goes as one disk."))
    raise HypervisorError(
        "vSphere made a machine of the description that lacks its disks.",
        expected="a place to send each to",
        cause="not-supported",
    )


def _make(
    connection: Connection,
    placement: Placement,
    template: Template,
    content: Content,
    monitor: Monitor,
) -> Made | None:
    """Make a template of `content`, None if the server does not take it in that form."""
    try:
        filled = _fill(connection, placement, template, content, monitor)
        if filled is None:
            return None
        machine, sent, is_compared = filled
        with connection.doing("make the snapshot"):
            task = machine.CreateSnapshot_Task(
                template.snapshot, "What machines are cloned of.", False, False
            )
        connection.wait(task, doing="make the snapshot", timeout_seconds=_TASK_SECONDS)
        _mark(connection, machine)
    except BaseException:
        _remove_own(connection, placement, template)
        raise
    return Made(machine._moId, sent, is_compared)


def _fill(
    connection: Connection,
    placement: Placement,
    template: Template,
    content: Content,
    monitor: Monitor,
) -> tuple[Any, Sequence[Sent], bool] | None:
    """Make the machine and send its disks, again from the beginning if the way there breaks."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _attempt(connection, placement, template, content, monitor)
        except SaltflatError as error:
            if attempt == _ATTEMPTS or error.cause not in _PASSING:
                raise
            monitor(Note(f"{error.what} Beginning anew.", warning=True))
    raise AssertionError("the last attempt returns or raises")


def _attempt(
    connection: Connection,
    placement: Placement,
    template: Template,
    content: Content,
    monitor: Monitor,
) -> tuple[Any, Sequence[Sent], bool] | None:
    spec, keys = _import_spec(connection, placement, template, content)
    if len(keys) < len(content.disks):
        return None
    host = placement.resources.host
    pool: Any = placement.resources.pool.reference
    lease = None
    try:
        with connection.doing(f"make the machine {template.name}"):
            reference = pool.ImportVApp(
                spec, placement.folder.reference, None if host is None else host.reference
            )
        lease = Lease(connection, reference)
        places = [destination(*lease.disk_url(key), connection.settings) for key in keys]
        sent = []
        with lease.kept_alive():
            for number, (disk, to) in enumerate(zip(content.disks, places, strict=True)):
                shares = (number / len(places), (number + 1) / len(places))
                sent.append(_send(connection, lease, disk, to, shares=shares, monitor=monitor))
        # What a server notes of several disks that went to one place is not known.
        is_compared = len(sent) == 1 and lease.compare(sent[0].size_bytes, sent[0].sha1)
        lease.complete()
    except BaseException:
        if lease is not None:
            lease.abort()
        _remove_own(connection, placement, template)  # what the server did not remove by itself
        raise
    return lease.machine, sent, is_compared


def _send(
    connection: Connection,
    lease: Lease,
    disk: Disk,
    to: Destination,
    *,
    shares: tuple[float, float],
    monitor: Monitor,
) -> Sent:
    """Send one disk, with which the whole advances from one share (0 to 1) to the other."""
    begin, end = shares
    with disk.open() as stream:
        size_bytes = stream.size_bytes
        monitor(StepStarted(_STEP, size_bytes))
        shown = 0

        def told(done: int) -> None:
            nonlocal shown
            lease.tell(
                int(100 * (begin + (end - begin) * (done / size_bytes if size_bytes else 0)))
            )
            if done - shown >= _ADVANCE_BYTES:
                shown = done
                monitor(StepAdvanced(_STEP, done))

        try:
            sent = send_disk(
                to,
                stream.write,
                size_bytes,
                timeout_seconds=connection.settings.timeout_seconds,
                told=told,
            )
        except TRANSPORT_ERRORS as error:
            raise from_transport(error, url=f"https://{to}", doing="take the disk") from error
    monitor(StepFinished(_STEP, f"{sent.size_bytes / 1e6:,.1f} MB"))
    return sent


def _import_spec(
    connection: Connection, placement: Placement, template: Template, content: Content
) -> tuple[Any, list[str]]:
    """Let the server make of the descriptor what it takes; return that, and the disks' keys.

    There are fewer keys than disks where it does not want all of them.
    """
    host = placement.resources.host
    parameters = import_parameters(
        name=template.name,
        networks={template.network: placement.network.reference},
        provisioning=template.provisioning,
        host=None if host is None else host.reference,
    )
    with connection.doing("read the machine's description"):
        made = connection.content.ovfManager.CreateImportSpec(
            content.descriptor,
            placement.resources.pool.reference,
            placement.datastore.reference,
            parameters,
        )
    if made.error:
        raise from_fault(
            made.error[0], doing="make the machine as described", named=connection.name_of
        )
    configuration = made.importSpec.configSpec
    add_marks(configuration, template.marks)
    configuration.instanceUuid = uuid_of(template.marks[c_marks.IMPORT])
    if placement.policy is not None:
        add_storage_policy(configuration, placement.policy)
    add_adapter(connection, configuration, placement.network.reference)
    keys = {item.path: str(item.deviceId) for item in made.fileItem}
    return made.importSpec, [keys[disk.name] for disk in content.disks if disk.name in keys]


def _mark(connection: Connection, machine: Any) -> None:  # noqa: ANN401 - pyvmomi's own
    """Make it a template in vCenter's eyes, which nobody can start; hosts alone have none."""
    if not connection.about.is_vcenter:
        return
    if connection.properties(machine, ["config.template"]).get("config.template"):
        return
    try:
        with connection.doing("mark the template"):
            machine.MarkAsTemplate()
    except SaltflatError:  # who waits for a template marks it, too, as soon as it is whole
        if not connection.properties(machine, ["config.template"]).get("config.template"):
            raise


def _remove_own(connection: Connection, placement: Placement, template: Template) -> None:
    """Remove the machine that this import has made, if it is there. Raises nothing of vSphere's.

    It is found by name and mark: whoever is interrupted while the server makes it never hears its
    id.
    """
    with suppress(SaltflatError):
        vm = vm_called(connection, placement.folder.reference, template.name)
        if vm is not None and vm.extra.get(c_marks.IMPORT) == template.marks[c_marks.IMPORT]:
            destroy(connection, vm)
