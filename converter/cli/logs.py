"""The verb `logs`: what a machine's process has printed, told apart as it was."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator

import click

from agent.host.client import Note, Output, Query, lines, logs
from converter import events
from converter.cli import output as cli_output
from converter.cli.moments import read_moment, timestamp
from converter.cli.reach import Place, explained, machine_argument, place_options
from converter.cli.relay_address import relay_errors
from converter.errors import UsageError
from converter.machine.machines import Status

_ALL = "all"
_STDOUT, _STDERR = 1, 2


@click.command("logs")
@machine_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the process ends.")
@click.option(
    "-n",
    "--tail",
    default=_ALL,
    metavar="LINES",
    show_default=True,
    help="Begin with so many lines before the end.",
)
@click.option("--since", metavar="TIME", help="Leave out what is older.")
@click.option("--until", metavar="TIME", help="Leave out what came then or later.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with when it came.")
@place_options
@click.pass_obj
def command(
    output: cli_output.Output,
    *,
    machine: str,
    follow: bool,
    tail: str,
    since: str | None,
    until: str | None,
    timestamps: bool,
    place: Place,
) -> int:
    """Show what the process of MACHINE printed: its stdout on ours, its stderr on ours.

    The log goes on from one start to the next, also while nobody is attached, and stays until the
    machine is removed. A TIME is a time stamp (2026-01-31T13:05:00Z, or any beginning of it;
    without a zone in this host's), seconds since 1970, or a span before now: 10m, 1h30m. It is the
    host's clock when the output arrived.

    \b
    Examples:
      saltflat logs web
      saltflat logs -f --tail 20 web
      saltflat logs -t --since 1h30m --until 10m web 2>/dev/null
      saltflat logs --relay relay.example:7443 --relay-token-file ./token web
    """
    now_ns = time.time_ns()
    query = Query(
        tail=_read_tail(tail),
        since_ns=0 if since is None else read_moment(since, now_ns),
        until_ns=None if until is None else read_moment(until, now_ns),
    )
    output.close()
    with _entries(place, machine, query, follow=follow) as entries:
        _print(output, lines(entries) if timestamps else entries, timestamps=timestamps)
    return 0


def _read_tail(text: str) -> int | None:
    if text == _ALL:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--tail {text!r} is no number of lines.", expected="0 or more, or all")
    return int(text)


@contextlib.contextmanager
def _entries(
    place: Place, name: str, query: Query, *, follow: bool
) -> Iterator[Iterable[Output | Note]]:
    if place.relay is not None:
        with relay_errors():
            yield logs(place.relay.address(name), query, follow=follow)
        return
    machines = place.machines
    record = machines.find(name)
    if follow and record.status is Status.RUNNING:
        # Should it end before we are there: its relay is still to be had.
        with explained(machines, record.id):
            yield logs(machines.address(record.id), query, follow=True)
    elif record.status is not Status.CREATED:
        with explained(machines, record.id):
            yield machines.saved_logs(record.id, query)
    else:
        yield ()


def _print(
    output: cli_output.Output, entries: Iterable[Output | Note], *, timestamps: bool
) -> None:
    for entry in entries:
        if isinstance(entry, Output):
            prefix = f"{timestamp(entry.time_ns)} ".encode() if timestamps else b""
            _write(_STDERR if entry.stderr else _STDOUT, prefix + entry.data)
        elif entry.kind in {"gap", "missed"}:
            where = "the guest, while nobody took them" if entry.kind == "gap" else "the log"
            output.monitor(
                events.Note(f"{entry.count} bytes were dropped in {where}", warning=True)
            )
            output.close()


def _write(descriptor: int, data: bytes) -> None:
    """Write it all, past Python's buffers: both descriptors may be the same terminal."""
    sys.stdout.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
