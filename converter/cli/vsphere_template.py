"""The template that an image has on vSphere: what `vsphere import` and `run` ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from converter.events import Monitor
from converter.export.disks import DISK
from converter.export.exportable import Exportable
from converter.export.settings import Export
from converter.export.template import DISK_NAME, NETWORK, template_disk, template_name
from converter.store.layout import Store
from converter.vmdk.compression import best
from converter.vsphere import c_marks as marks
from converter.vsphere.placement import Provisioning

if TYPE_CHECKING:
    from converter.vsphere.templates import Disk, Template


def image_template(
    found: Exportable,
    store: Store,
    *,
    name: str | None,
    provisioning: Provisioning = Provisioning.THIN,
    monitor: Monitor,
) -> Template:
    """Return the template of an image, called `name` or after the image; to be used in the store.

    Its disk is deflated when it is asked for.
    """
    # pyvmomi, which most verbs can do without, comes with this.
    from converter.vsphere.templates import DISK_MARK, Disk, Template  # noqa: PLC0415 - as said

    image = found.image
    export = Export(
        kind="stream",
        source=found,
        file_name=DISK_NAME,
        codec=best(None),
        threads=len(os.sched_getaffinity(0)),
    )

    @contextmanager
    def disk() -> Iterator[Disk]:
        with template_disk(export, store.root, monitor) as made:
            descriptor = made.descriptor.decode()
            yield Disk(made.file, made.size_bytes, made.sha1, descriptor)

    called = name or template_name(image)
    return Template(
        name=called,
        marks={
            marks.TEMPLATE: called,
            DISK_MARK: found.identity(DISK),
            "saltflat.digest": str(image.digest),
            "saltflat.platform": str(image.platform),
            "saltflat.reference": image.reference,
        },
        snapshot=str(image.digest),
        network=NETWORK,
        provisioning=provisioning,
        make_disk=disk,
    )
