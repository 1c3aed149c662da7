"""The verb `vsphere import`: an image's disk as a template, once."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from converter.cli.caching import Caching, cache_options
from converter.cli.durations import SECOND_NS, Duration
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
from converter.events import Note
from converter.export.disks import DISK
from converter.export.template import DiskAhead, check_template_name, template_export
from converter.image.reference import BundleReference
from converter.image.source import Origin
from converter.store.locks import using
from converter.vsphere.kept import KeptSessions
from converter.vsphere.placement import Provisioning
from converter.vsphere.settings import Settings


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
    envvar="SALTFLAT_VSPHERE_PROVISIONING",
    show_envvar=True,
    help="How much of the datastore the disk takes from the beginning; else as the project says, "
    "else thin.",
)
@click.option(
    "--chunked",
    is_flag=True,
    envvar="SALTFLAT_VSPHERE_CHUNKED",
    show_envvar=True,
    help="Send the disk while it is deflated, without its length; untested on ESXi.",
)
@click.option(
    "--delta",
    is_flag=True,
    envvar="SALTFLAT_VSPHERE_DELTA",
    show_envvar=True,
    help="Send a disk for each link of the chain, where the server takes that; untested on ESXi.",
)
@click.option(
    "--tag/--no-tag",
    default=True,
    envvar="SALTFLAT_VSPHERE_TAG",
    show_envvar=True,
    show_default=True,
    help="Tag the template by the image's digest, where vCenter lets us.",
)
@click.option(
    "--replace",
    is_flag=True,
    envvar="SALTFLAT_VSPHERE_REPLACE",
    show_envvar=True,
    help="Remove what a killed import has left, and begin anew. A whole template is left alone.",
)
@click.option(
    "--wait",
    type=Duration(),
    default="6m",
    envvar="SALTFLAT_VSPHERE_WAIT",
    show_envvar=True,
    show_default=True,
    metavar="TIME",
    help="Wait so long for another client that imports the same.",
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
    provisioning: str | None,
    chunked: bool,
    delta: bool,
    tag: bool,
    replace: bool,
    wait: int,
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
    if name is not None:
        check_template_name(name)
    if chunked and delta:
        raise UsageError("--chunked and --delta exclude each other.", expected="one of them")
    wished = provisioning or settings.wishes.provisioning or Provisioning.THIN
    warn_if_insecure(settings, output.monitor)
    reference = parse_argument(source)
    store = open_store(store_root)
    find = partial(
        find_exportable,
        source,
        reference,
        store,
        origin=origin,
        conversion=conversion,
        caching=caching,
        output=output,
    )
    with ExitStack() as stack:
        stack.enter_context(interrupted_by_signals())
        stack.enter_context(using(store, monitor=output.monitor))
        found = ahead = None
        if isinstance(reference, BundleReference) and not chunked and not delta:
            # Its disk needs nothing but processors, and what follows waits for one after the other.
            found = find()
            export = template_export(found)
            ahead = stack.enter_context(DiskAhead(export, store.root, output.monitor))
        # pyvmomi, which most verbs can do without, comes with these.
        from converter.template_import import Manner, bring, find_place  # noqa: PLC0415 - as said
        from converter.template_import import tag as tag_template  # noqa: PLC0415 - as said
        from converter.vsphere.connection import open_connection  # noqa: PLC0415 - as said

        connection = stack.enter_context(open_connection(settings, kept=kept))
        inventory, placement = find_place(connection)  # before anything that takes time
        found = found or find()
        manner = Manner(provisioning=Provisioning(wished), is_chunked=chunked, is_delta=delta)
        called, made = bring(
            connection,
            placement,
            found,
            name=name,
            manner=manner,
            replace=replace,
            wait_seconds=wait / SECOND_NS,
            folder=store.root,
            ahead=ahead,
            monitor=output.monitor,
        )
        tagged = tag_template(connection, made, found, output.monitor) if tag else None
        path = f"{inventory.path(placement.folder)}/{called}"
    image, sent = found.image, made.sent
    if not sent:
        output.monitor(Note(f"{called} is there already: nothing was sent."))
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
            "tag": tagged,
            "existed": not sent,
            "sent": None
            if not sent
            else {
                "size": sum(one.size_bytes for one in sent),
                "sha1": sent[0].sha1 if len(sent) == 1 else None,
                "disks": len(sent),
                "compared": made.is_compared,
            },
        },
    )
    return 0
