"""The verb `cp`: files between a machine and this host, by the rules of `docker cp`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from agent.host.client import copy_in, copy_out, receive_archive, send_archive
from converter.cli.output import Output
from converter.cli.reach import Place, complete_machine, place_options
from converter.cli.stdin import claim_stdin
from converter.errors import UsageError
from converter.events import Note

_STREAM = "-"
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy: a path, in a machine or on this host; `-` is a tar stream here."""

    path: str
    machine: str | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input or output."""
        return self.machine is None and self.path == _STREAM


def read_end(text: str) -> End:
    """Read MACHINE:PATH, PATH or -, as docker tells them apart. Raises UsageError.

    What begins with `/` or `.`, or has no colon, or a slash before it, is a path of this host.
    """
    name, colon, path = text.partition(":")
    if not text:
        raise UsageError("An empty path names nothing to copy.", expected="MACHINE:PATH, or a path")
    if not colon or text.startswith(("/", ".")) or "/" in name:
        return End(text)
    if not name or not path:
        raise UsageError(
            f"{text!r} lacks the machine or the path.",
            expected="MACHINE:PATH, or a path that begins with ./ when its name has a colon",
        )
    return End(path, name)


def check_ends(source: End, target: End) -> None:
    """Raise UsageError unless exactly one end is in a machine."""
    if source.machine is not None and target.machine is not None:
        raise UsageError(
            "Nothing is copied from machine to machine.",
            expected="one of the two on this host",
            hint="saltflat cp ONE:PATH - | saltflat cp - OTHER:FOLDER copies through this host.",
        )
    if source.machine is None and target.machine is None:
        raise UsageError(
            "Neither of the two is in a machine.",
            expected="MACHINE:PATH for one of them",
            hint="A path of a machine has its name before it, as in web:/etc/hosts.",
        )


@click.command("cp")
@click.argument("source", shell_complete=complete_machine)
@click.argument("target", shell_complete=complete_machine)
@click.option("-a", "--archive", is_flag=True, help="Keep the numbers of owners and groups.")
@click.option(
    "-L", "--follow-link", is_flag=True, help="If SOURCE is a link, copy what it leads to."
)
@click.option("-q", "--quiet", is_flag=True, help="Do not say what was copied.")
@place_options
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    target: str,
    archive: bool,
    follow_link: bool,
    quiet: bool,
    place: Place,
) -> int:
    """Copy the file or folder SOURCE to TARGET; one is MACHINE:PATH, the other a path of this host.

    A TARGET that does not exist becomes the copy; a folder gets the copy into it, or with SOURCE/.
    what is in the folder SOURCE; a file is replaced by a file. The folder above must exist, and
    TARGET/ as well unless a folder is copied. Paths of machines begin at their root. The machine
    must run.

    Copies belong to root in a machine and to you on this host, or with -a (here as root) to the
    numbers they belonged to. Modes and times are kept, but no setuid, setgid and sticky bits from a
    machine; devices, pipes and sockets are left out. Whatever the machine sends, nothing outside
    TARGET is written.

    With - as TARGET a tar stream goes to standard output, with - as SOURCE one from standard input
    is unpacked into the folder TARGET, with the owners that it says.

    \b
    Examples:
      saltflat cp web:/var/log/app.log .
      saltflat cp ./site/. web:/srv/www
      saltflat cp -a backup/ db:/var/lib/db
      saltflat cp web:/etc - | tar -t
    """
    given, taken = read_end(source), read_end(target)
    check_ends(given, taken)
    if given.is_stream:
        claim_stdin("cp -")
    if (given.is_stream and sys.stdin.isatty()) or (taken.is_stream and sys.stdout.isatty()):
        raise UsageError("A tar stream is not for a terminal.", expected="a pipe or a file for -")
    reached = place.running(given.machine or taken.machine or "")
    with reached.errors():
        if given.is_stream:
            send_archive(reached.address, _stdin_pieces(), taken.path)
        elif taken.is_stream:
            stdout = sys.stdout.buffer
            receive_archive(reached.address, given.path, stdout.write, follow=follow_link)
            stdout.flush()
        else:
            copy = copy_out if taken.machine is None else copy_in
            done = copy(
                reached.address, given.path, taken.path, follow=follow_link, keep_owners=archive
            )
            if done.left_out:
                text = f"{done.left_out} devices, pipes or sockets were left out"
                output.monitor(Note(text, warning=True))
            if not quiet:
                entries = "1 entry" if done.entries == 1 else f"{done.entries} entries"
                output.monitor(Note(f"copied {entries}, {done.bytes:,} bytes"))
    return 0


def _stdin_pieces() -> Iterator[bytes]:
    while data := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        yield data
