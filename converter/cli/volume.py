"""The verbs `volume create`, `ls`, `inspect`, `rm` and `prune`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from converter.cli.moments import utc_second
from converter.cli.options import format_option, read_labels, size, state_option
from converter.cli.output import Output
from converter.errors import IntegrityError, SaltflatError, UsageError
from converter.events import Note
from converter.volume.record import Volume
from converter.volume.users import User
from converter.volume.volumes import DEFAULT_SIZE_BYTES, Volumes

_BLOCK_BYTES = 512  # of st_blocks
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_HEADER = ("VOLUME NAME", "SIZE", "ON DISK", "USED BY")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A volume, what its disk takes of this host's, and who has it."""

    volume: Volume
    disk: Path
    on_disk_bytes: int
    users: tuple[User, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.volume.name,
            "created": utc_second(self.volume.created_ns),
            "labels": dict(self.volume.labels),
            "anonymous": self.volume.anonymous,
            "size": self.volume.size_bytes,
            "on_disk": self.on_disk_bytes,
            "disk": str(self.disk),
            "serial": self.volume.serial,
            "users": [
                {
                    "id": user.machine_id,
                    "name": user.name,
                    "read_only": user.read_only,
                    "running": user.running,
                }
                for user in self.users
            ],
        }


@click.group("volume")
def command() -> None:
    """Keep data beyond a machine's life, on disks of their own.

    A volume is a disk with an ext4 file system. One running machine may write to it, or any number
    may read it.

    \b
    Examples:
      saltflat run -v data:/var/lib/data debian:12 touch /var/lib/data/here
      saltflat volume ls
    """


@command.command("create")
@click.argument("name", required=False)
@click.option(
    "--size",
    "size_bytes",
    type=size,
    metavar="SIZE",
    help=f"Size of the file system; unused space costs nothing.  [default: "
    f"{DEFAULT_SIZE_BYTES >> 30}G]",
)
@click.option("--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="Set a label.")
@state_option
@format_option
@click.pass_obj
def create(
    output: Output,
    *,
    name: str | None,
    size_bytes: int | None,
    labels: tuple[str, ...],
    state_root: Path,
) -> int:
    """Make a volume and print its name; without NAME it gets one of 64 digits.

    One that is there already is left as it is.

    \b
    Examples:
      saltflat volume create data
      saltflat volume create --size 200G --label purpose=backup archive
    """
    pairs = dict(read_labels(labels))
    volumes = Volumes(state_root)
    volume = volumes.create(name, size_bytes=size_bytes, labels=pairs)
    output.result(volume.name, {"schema": 1, "volume": _entry(volumes, volume.name).to_json()})
    return 0


@command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those with name=PART, dangling=true|false (no machine has it) or "
    "label=KEY[=VALUE]; several of a key are alternatives for name and all needed for label.",
)
@state_option
@format_option
@click.pass_obj
def list_volumes(output: Output, *, quiet: bool, filters: tuple[str, ...], state_root: Path) -> int:
    """List volumes, what they take of this host's disk, and the machines that have them.

    \b
    Examples:
      saltflat volume ls
      saltflat volume ls -q --filter dangling=true
      saltflat volume ls --format json
    """
    wanted = _read_filters(filters)
    volumes = Volumes(state_root)
    entries = []
    for name in volumes.names():
        try:
            entry = _entry(volumes, name)
        except IntegrityError as error:
            output.monitor(Note(error.what, warning=True))
            continue
        if _passes(entry, wanted):
            entries.append(entry)
    names = [entry.volume.name for entry in entries]
    output.result(
        "\n".join(names if quiet else _table(entries)),
        {"schema": 1, "volumes": [entry.to_json() for entry in entries]},
    )
    return 0


@command.command("inspect")
@click.argument("names", nargs=-1, required=True)
@state_option
@click.pass_obj
def inspect(output: Output, *, names: tuple[str, ...], state_root: Path) -> int:
    """Show volumes as JSON.

    \b
    Examples:
      saltflat volume inspect data
    """
    volumes = Volumes(state_root)
    entries = [_entry(volumes, name).to_json() for name in names]
    document = {"schema": 1, "volumes": entries}
    output.result(json.dumps(document, indent=1), document)
    return 0


@command.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@state_option
@click.pass_obj
def remove(output: Output, *, names: tuple[str, ...], force: bool, state_root: Path) -> int:
    """Remove volumes with all that is on them, and print their names.

    One that a machine has, running or not, stays: remove the machine first. The exit code is 1 if
    any stays.

    \b
    Examples:
      saltflat volume rm data
      saltflat volume rm -f data cache
    """
    volumes = Volumes(state_root)
    failed = 0
    for name in names:
        try:
            volumes.remove(name, force=force)
        except SaltflatError as error:
            if len(names) == 1:
                raise
            output.monitor(Note(error.what, warning=True))
            failed += 1
            continue
        click.echo(name)
    return SaltflatError.exit_code if failed else 0


@command.command("prune")
@click.option("-a", "--all", "named", is_flag=True, help="Also those that have a name.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@state_option
@click.pass_obj
def prune(output: Output, *, named: bool, force: bool, state_root: Path) -> int:
    """Remove the unnamed volumes that no machine has, and print their names.

    \b
    Examples:
      saltflat volume prune -f
      saltflat volume prune --all
    """
    which = "all volumes" if named else "the unnamed volumes"
    if not force:
        output.close()
        click.confirm(f"Remove {which} that no machine has?", abort=True, err=True)
    for name in Volumes(state_root).prune(named=named):
        click.echo(name)
    return 0


def _entry(volumes: Volumes, name: str) -> _Entry:
    volume = volumes.get(name)
    disk = volumes.disk(name)
    try:
        on_disk_bytes = disk.stat().st_blocks * _BLOCK_BYTES
    except FileNotFoundError as error:
        raise IntegrityError(
            f"Volume {name} has no disk.", hint=f"Remove what is left: saltflat volume rm {name}"
        ) from error
    return _Entry(volume, disk, on_disk_bytes, volumes.users(name))


def _read_filters(filters: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {"name": [], "dangling": [], "label": []}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in wanted or (key == "dangling" and value not in _BOOLEANS):
            raise UsageError(
                f"--filter {text!r} is not known.",
                expected="name=PART, dangling=true, dangling=false or label=KEY[=VALUE]",
            )
        wanted[key].append(value)
    return wanted


def _passes(entry: _Entry, wanted: Mapping[str, Sequence[str]]) -> bool:
    name, labels = entry.volume.name, entry.volume.labels
    if wanted["name"] and not any(part in name for part in wanted["name"]):
        return False
    if any(_BOOLEANS[value] == bool(entry.users) for value in wanted["dangling"]):
        return False
    for text in wanted["label"]:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _table(entries: Sequence[_Entry]) -> list[str]:
    rows = [_HEADER]
    for entry in entries:
        rows.append(
            (
                entry.volume.name,
                _readable(entry.volume.size_bytes),
                _readable(entry.on_disk_bytes),
                ", ".join(user.name for user in entry.users) or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        for row in rows
    ]


def _readable(count: int) -> str:
    """Write a size as --size reads it, to one digit behind the point."""
    for unit, name in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + name
    return str(count)
