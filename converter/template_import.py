"""An image's disk as a template: all there is to it between a session and a result.

Knows images' disks and vSphere, which do not know each other. It loads pyvmomi: to be imported when
there is something to bring.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from converter.errors import SaltflatError
from converter.events import Monitor, Note
from converter.export.disks import DISK
from converter.export.exportable import Exportable
from converter.export.template import (
    NETWORK,
    DiskAhead,
    TemplateContent,
    kept_disk,
    linked_disks,
    passing_disk,
    template_export,
    template_name,
)
from converter.vsphere import c_marks
from converter.vsphere.cluster_host import settle_host
from converter.vsphere.connection import Connection
from converter.vsphere.inventory import Inventory
from converter.vsphere.placement import Placement, Provisioning, place
from converter.vsphere.storage_policy import find_policy
from converter.vsphere.survey import survey
from converter.vsphere.tagging import tag_machine
from converter.vsphere.templates import Made, Template, import_template

# For another client's import. Servers remove what a killed one has left after 300 seconds.
WAIT_SECONDS = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a disk gets there: `is_chunked` without a first pass, `is_delta` a disk for each link."""

    provisioning: Provisioning = Provisioning.THIN
    is_chunked: bool = False
    is_delta: bool = False


def find_place(connection: Connection) -> tuple[Inventory, Placement]:
    """Return what there is, and where machines go by the session's wishes.

    Raises NotFoundError, UsageError, HypervisorError, and what a request may raise.
    """
    wishes = connection.settings.wishes
    inventory = survey(connection)
    if wishes.storage_policy is None:
        placement = place(inventory, wishes)
    else:
        policy = find_policy(connection, wishes.storage_policy)
        placement = place(inventory, wishes, policy=policy.id, datastores=policy.datastores)
    return inventory, settle_host(connection, inventory, placement)


def bring(
    connection: Connection,
    placement: Placement,
    source: Exportable,
    *,
    name: str | None,
    manner: Manner,
    replace: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    folder: Path,
    ahead: DiskAhead | None = None,
    monitor: Monitor,
) -> tuple[str, Made]:
    """Make a template of `source`, unless it is there; return its name and what came of it.

    `folder` is where a disk may lie while it is sent, unless it is `ahead` already; `wait_seconds`
    is for another client that makes the same. Raises as `import_template`.
    """
    image = source.image
    export = template_export(source)
    if ahead is not None:
        flat: Callable[[], AbstractContextManager[TemplateContent]] = ahead.content
    elif manner.is_chunked:
        flat = partial(passing_disk, export, monitor)
    else:
        flat = partial(kept_disk, export, folder, monitor)
    called = name or template_name(image.reference, image.digest)
    template = Template(
        name=called,
        marks={
            c_marks.TEMPLATE: called,
            c_marks.DISK: source.identity(DISK),
            c_marks.DIGEST: str(image.digest),
            c_marks.PLATFORM: str(image.platform),
            c_marks.REFERENCE: image.reference,
        },
        snapshot=str(image.digest),
        network=NETWORK,
        provisioning=manner.provisioning,
        ways=[partial(linked_disks, export, folder, monitor), flat] if manner.is_delta else [flat],
    )
    return called, import_template(
        connection,
        placement,
        template,
        replace=replace,
        wait_seconds=wait_seconds,
        monitor=monitor,
    )


def tag(connection: Connection, made: Made, source: Exportable, monitor: Monitor) -> str | None:
    """Tag a template by its image's digest where there are tags; return the tag, None without.

    A template without it is as good: what stands in the way is a note.
    """
    if not connection.about.is_vcenter:
        return None
    image = source.image
    called = str(image.digest)
    try:
        tag_machine(connection.settings, made.machine, tag=called, description=image.reference)
    except SaltflatError as error:
        why = error.what if not error.expected else f"{error.what} Expected: {error.expected}."
        monitor(Note(f"The template has no tag: {why}"))
        return None
    return called
