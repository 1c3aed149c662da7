"""The verbs `vspc add|rekey|rm|ls`: the machines whose lines a concentrator relays."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.host.errors import ChannelError
from agent.host.relay.roster import Enrolment, MachineExistsError, NoMachineError, Roster
from agent.host.vspc.errors import BusyError, ListenError, RuleError
from converter.cli.options import format_option
from converter.cli.output import Output
from converter.errors import NotFoundError, PolicyError, SaltflatError, UsageError

_Command = TypeVar("_Command", bound="Any")
_KEY_FILE_BYTES = 256  # at most, of which 64 are digits


def relays_option(command: _Command) -> _Command:
    """Add --relays; the command gets it as `relays`."""
    return click.option(
        "--relays",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        envvar="SALTFLAT_VSPC_RELAYS",
        show_envvar=True,
        help="Folder of the machines' keys and logs; made with mode 0700.",
    )(command)


def _key_options(command: _Command) -> _Command:
    options = [
        click.option(
            "--key-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Take the key from this file, 64 hexadecimal digits; else a new one is made.",
        ),
        click.option(
            "--document",
            type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
            metavar="FILE",
            help="Write what the guest is to be told to FILE, which is new and gets mode 0600; "
            "- is stdout.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("add")
@click.argument("name")
@click.option("--uuid", help="The VM's instanceUuid; else it is the VM that calls itself NAME.")
@_key_options
@relays_option
def add(
    *, name: str, uuid: str | None, key_file: Path | None, document: Path | None, relays: Path
) -> int:
    """Let the virtual machine NAME be relayed, before its first boot.

    NAME is what clients call it: letters, digits, and _.- after the first. A running `vspc serve`
    learns of it within a second.

    \b
    Examples:
      saltflat vspc add db-1 --uuid 501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11 --document db-1.json
      saltflat vspc add db-1 --key-file key --relays /var/lib/vspc
    """
    key = _chosen_key(key_file, document)
    with vspc_errors(), _handed_over(document) as hand_over:
        hand_over(Roster(relays).add(name, uuid, key=key))
    return 0


@click.command("rekey")
@click.argument("name")
@_key_options
@relays_option
def rekey(*, name: str, key_file: Path | None, document: Path | None, relays: Path) -> int:
    """Give machine NAME another key, as when what its relay knew is lost or its key has leaked.

    At once nothing under the old key is accepted any more. The guest goes on in a new session when
    it is given the document, from the place where it looks for its configuration.

    \b
    Examples:
      saltflat vspc rekey db-1 --document - --relays /var/lib/vspc
    """
    key = _chosen_key(key_file, document)
    with vspc_errors(), _handed_over(document) as hand_over:
        hand_over(Roster(relays).rekey(name, key=key))
    return 0


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@relays_option
def remove(*, names: tuple[str, ...], relays: Path) -> int:
    """Forget machines: their keys and their logs.

    \b
    Examples:
      saltflat vspc rm db-1 --relays /var/lib/vspc
    """
    with vspc_errors():
        roster = Roster(relays)
        for name in names:
            roster.remove(name)
    return 0


@click.command("ls")
@relays_option
@format_option
@click.pass_obj
def show(output: Output, *, relays: Path) -> int:
    """List the machines that are relayed.

    \b
    Examples:
      saltflat vspc ls --relays /var/lib/vspc --format json
    """
    with vspc_errors():
        roster = Roster(relays)
        found = [identity for name in roster.names() if (identity := roster.identity(name))]
    document = [{"name": one.name, "uuid": one.uuid, "epoch": one.epoch} for one in found]
    lines = [f"{one.name}\t{one.uuid or '(by its name)'}" for one in found]
    output.result("\n".join(lines), {"schema": 1, "machines": document})
    return 0


def _chosen_key(key_file: Path | None, document: Path | None) -> bytes | None:
    if key_file is None:
        if document is None:
            raise UsageError(
                "Nobody would know the new key.",
                expected="--document FILE for the guest, or --key-file FILE with a key it has",
            )
        return None
    with key_file.open("rb") as file:
        text = file.read(_KEY_FILE_BYTES)
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        # The content is a secret: say what is expected, never what was there.
        raise UsageError(f"{key_file} has no key.", expected="64 hexadecimal digits") from error


@contextlib.contextmanager
def _handed_over(document: Path | None) -> Iterator[Callable[[Enrolment], None]]:
    """Yield what writes the document; the file is there before any key is made for it."""
    if document is None:
        yield lambda _enrolment: None
        return
    if os.fspath(document) == "-":
        yield lambda enrolment: click.echo(json.dumps(enrolment.document()))
        return
    descriptor = os.open(document, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        try:
            yield lambda enrolment: print(json.dumps(enrolment.document()), file=file)
        except BaseException:
            document.unlink()
            raise


@contextlib.contextmanager
def vspc_errors() -> Iterator[None]:
    """Turn the errors of the concentrator and its relays into the command line's."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    except ChannelError as error:
        kind = _KINDS.get(type(error).kind, SaltflatError)
        raise kind(error.what, expected=error.expected, hint=error.hint) from error


_KINDS: dict[str, type[SaltflatError]] = {
    RuleError.kind: UsageError,
    ListenError.kind: UsageError,
    BusyError.kind: PolicyError,
    NoMachineError.kind: NotFoundError,
    MachineExistsError.kind: PolicyError,
}
