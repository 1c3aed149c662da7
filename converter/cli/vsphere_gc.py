"""The verb `vsphere gc`: what nobody needs any more there."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from agent.host.status import printable
from converter.cli.drivers import VSPHERE, Driver
from converter.cli.durations import Duration
from converter.cli.options import format_option
from converter.cli.output import Output
from converter.cli.vsphere_options import vsphere_options
from converter.events import Note
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Settings

_MICROSECOND_NS = 1000


@click.command("gc")
@click.option(
    "--dry-run",
    is_flag=True,
    envvar="SALTFLAT_DRY_RUN",
    show_envvar=True,
    help="Only say what would be removed.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="1h",
    envvar="SALTFLAT_VSPHERE_GRACE",
    show_envvar=True,
    show_default=True,
    metavar="TIME",
    help="Leave what nobody has needed for less than this: it may be another's work in progress.",
)
@click.option(
    "--keep-media",
    is_flag=True,
    envvar="SALTFLAT_VSPHERE_KEEP_MEDIA",
    show_envvar=True,
    help="Leave boot media alone: for a datastore that machines of another server use, too.",
)
@click.option(
    "--relays",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    envvar="SALTFLAT_VSPC_RELAYS",
    show_envvar=True,
    help="The folder of the machines' keys and logs, which vspc serve has.",
)
@vsphere_options
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    dry_run: bool,
    grace: int,
    keep_media: bool,
    relays: Path,
    settings: Settings,
    kept: KeptSessions | None,
) -> int:
    """Remove what nobody needs: ended machines of run --rm, unfinished templates, boot media.

    A machine that removes itself and does not run is noted on itself when it is first seen so, and
    goes when that is --grace ago: with -d nobody else removes it. A template goes when its import
    has not ended for as long and the server is not at work on it; a boot medium when no machine
    starts from it, if the user sees all of the server. What is left for later is shown, too. Run
    it now and then, as from cron. The exit code is 1 if something could not be removed; the others
    are.

    \b
    Examples:
      saltflat vsphere gc --dry-run --relays /var/lib/vspc
      saltflat vsphere gc --grace 24h --relays /var/lib/vspc --format json
    """
    # pyvmomi, which most verbs can do without, comes with this.
    from converter.machine.vsphere_gc import collect  # noqa: PLC0415 - as said

    driver = Driver(name=VSPHERE, state_root=Path(), relays=relays)
    machines = driver.vsphere(output.monitor, session=(settings, kept))
    found = collect(
        machines,
        timedelta(microseconds=grace // _MICROSECOND_NS),
        dry_run=dry_run,
        keep_media=keep_media,
    )
    lines = []
    for one in found:
        what = "removed" if one.removed else "would be removed" if dry_run and one.due else "left"
        lines.append(f"{what:<17} {one.kind:<9} {printable(one.name)}  ({one.why})")
        if one.error:
            output.monitor(Note(f"{printable(one.name)} stays: {one.error}", warning=True))
    if lines or output.format == "json":
        document = {
            "schema": 1,
            "dry_run": dry_run,
            "leftovers": [asdict(one) for one in found],
        }
        output.result("\n".join(lines), document)
    return int(any(one.error for one in found))
