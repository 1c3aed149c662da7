"""The verb `vsphere import`: an image's disk as a template, once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from converter.cli.caching import Caching, cache_options
from converter.cli.exportables import find_exportable
from converter.cli.images import parse_argument
from converter.cli.interruption import interrupted_by_signals
from converter.cli.options import (
    conversion_options,
    format_option,
    open_store,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.cli.vsphere_options import vsphere_options, warn_if_insecure
from converter.convert_options import ConvertOptions
from converter.errors import UsageError
from converter.export.disks import DISK
from converter.export.settings import Export
from converter.export.template import DISK_NAME, NETWORK, template_disk, template_name
from converter.image.source import Origin
from converter.store.locks import using
from converter.vmdk.compression import best
from converter.vsphere.kept import KeptSessions
from converter.vsphere.placement import Provisioning, place
from converter.vsphere.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)  # vSphere takes 80 characters


@click.command("import")
@click.argument("source")
@click.option(
    "--name",
    envvar="SALTFLAT_VSPHERE_NAME",
    show_envvar=True,
    help="The template's name; else the image's with 12 digits of its digest.",
)
@click.option(
    "--provisioning",
    type=click.Choice([one.value for one in Provisioning]),
    default="thin",
    envvar="SALTFLAT_VSPHERE_PROVISIONING",
    show_envvar=True,
    show_default=True,
    help="How much of the datastore the disk takes from the beginning.",
)
@click.option(
    "--replace",
    is_flag=True,
    envvar="SALTFLAT_VSPHERE_REPLACE",
    show_envvar=True,
    help="Remove what a killed import has left, and begin anew. A whole template is left alone.",
)
@vsphere_options
@conversion_options
@cache_options
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    name: str | None,
    provisioning: str,
    replace: bool,
    settings: Settings,
    kept: KeptSessions | None,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Make a template of the image or bundle SOURCE, with its disk and a snapshot to clone.

    The disk goes through vSphere's own import, so any kind of datastore takes it. A template that
    is there already is recognised, and nothing is sent. On a host without vCenter it is a machine
    that is not to be started.

    \b
    Examples:
      saltflat vsphere import debian:12 --cluster prod --datastore ssd --network lan
      saltflat vsphere import ./bundle --name web --vsphere-url root@esxi.example --format json
    """
    # pyvmomi, which most verbs can do without, comes with these.
    from converter.vsphere.connection import open_connection  # noqa: PLC0415 - as said
    from converter.vsphere.survey import survey  # noqa: PLC0415 - as said
    from converter.vsphere.templates import (  # noqa: PLC0415 - as said
        DISK_MARK,
        Disk,
        Template,
        import_template,
    )

    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!a} is no name for a template.",
            expected="at most 80 letters, digits, and - . _ behind the first",
        )
    warn_if_insecure(settings, output.monitor)
    reference = parse_argument(source)
    store = open_store(store_root)
    with (
        interrupted_by_signals(),
        open_connection(settings, kept=kept) as connection,
        using(store, monitor=output.monitor),
    ):
        inventory = survey(connection)
        placement = place(inventory, settings.wishes)  # before anything that takes time
        found = find_exportable(
            source,
            reference,
            store,
            origin=origin,
            conversion=conversion,
            caching=caching,
            output=output,
        )
        image = found.image
        called = name or template_name(image)
        codec = best(None)
        export = Export(
            kind="stream",
            source=found,
            file_name=DISK_NAME,
            codec=codec,
            threads=len(os.sched_getaffinity(0)),
        )

        @contextmanager
        def disk() -> Iterator[Disk]:
            with template_disk(export, store.root, output.monitor) as made:
                descriptor = made.descriptor.decode()
                yield Disk(made.file, made.size_bytes, made.sha1, descriptor)

        template = Template(
            name=called,
            marks={
                DISK_MARK: found.identity(DISK),
                "saltflat.digest": str(image.digest),
                "saltflat.platform": str(image.platform),
                "saltflat.reference": image.reference,
            },
            snapshot=str(image.digest),
            network=NETWORK,
            provisioning=Provisioning(provisioning),
            make_disk=disk,
        )
        made = import_template(
            connection, placement, template, replace=replace, monitor=output.monitor
        )
        path = f"{inventory.path(placement.folder)}/{called}"
    sent = made.sent
    output.result(
        path,
        {
            "schema": 1,
            "template": path,
            "id": made.machine,
            "reference": image.reference,
            "digest": str(image.digest),
            "platform": str(image.platform),
            "disk": found.identity(DISK),
            "capacity": found.capacity_bytes,
            "existed": sent is None,
            "sent": None
            if sent is None
            else {"size": sent.size_bytes, "sha1": sent.sha1, "compared": made.is_compared},
        },
    )
    return 0
