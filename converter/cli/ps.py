"""The verb `ps`: which machines there are and how they do."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from converter.cli.drivers import Driver, driver_option
from converter.cli.filters import passes, read_filters, shows_all
from converter.cli.machine_rows import HEADINGS, TABLE, row
from converter.cli.output import Output
from converter.cli.templates import read_template
from converter.errors import UsageError
from converter.machine.machines import MachineRecord, Status


@click.command("ps")
@click.option("-a", "--all", "every", is_flag=True, help="Show machines that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids and nothing else.")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Show the machines created last, running or not.",
)
@click.option("-l", "--latest", is_flag=True, help="As --last 1.")
@click.option("--no-trunc", is_flag=True, help="Show ids and commands whole.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Show machines of this name=, id=, status=, health=, ancestor=, exited= or label=; "
    "repeatable.",
)
@click.option(
    "--format",
    "form",
    default="table",
    metavar="FORM",
    show_default=True,
    help="table, json, or a line with placeholders like {{.Names}}, also behind table.",
)
@driver_option
@click.pass_obj
def command(
    output: Output,
    *,
    every: bool,
    quiet: bool,
    last: int | None,
    latest: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    form: str,
    driver: Driver,
) -> int:
    """List the machines that run, or with -a all, the newest first.

    Filters of one key are alternatives, different keys must all hold. name= is a regular
    expression, id= the beginning of an id, status= is created, running, restarting, exited or
    dead (and implies -a, as exited=CODE does), health= is starting, healthy, unhealthy or none,
    ancestor= an image's name or digest.

    Placeholders are .ID .Names .Image .ImageDigest .Command .CreatedAt .RunningFor .Status .State
    .Ports .ExitCode .Reason .Mounts .Memory .CPUs, {{json .Names}} and {{json .}}; \\t and \\n are
    a tab and a new line.

    \b
    Examples:
      saltflat ps
      saltflat ps -a --filter status=exited --filter ancestor=debian:12
      saltflat ps --format '{{.Names}}: {{.Status}}'
      saltflat ps --format 'table {{.ID}}\\t{{.Names}}\\t{{.Memory}}'
      saltflat rm $(saltflat ps -aq --filter exited=0)
    """
    if quiet and form != "table":
        raise UsageError("-q and --format exclude each other.", hint="--format '{{.ID}}' is as -q.")
    if form == "json":
        output.format = form
    template = read_template(TABLE if form in {"table", "json"} else form, HEADINGS)
    wanted = read_filters(filters)
    last = 1 if latest else last
    every = every or last is not None or shows_all(wanted)
    records: Sequence[MachineRecord] = [
        record
        for record in driver.open(output.monitor).list()
        if (every or record.status is Status.RUNNING) and passes(record, wanted)
    ][:last]
    now_ns = time.time_ns()
    if quiet:
        lines = [record.id if no_trunc else record.short_id for record in records]
    else:
        lines = template.lines(
            [row(record, now_ns, whole=no_trunc) for record in records], HEADINGS
        )
    if lines or output.format == "json":
        output.result(
            "\n".join(lines), {"schema": 1, "machines": [record.to_json() for record in records]}
        )
    return 0
