"""Sign an EFI executable by a program of the user's choice, for Secure Boot."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from converter.errors import NotFoundError, SaltflatError, UsageError
from tinykernel.media.c_pe import DOS_MAGIC

_TIMEOUT_SECONDS = 300  # for a person at a token, too


def split_command(command: str) -> tuple[str, ...]:
    """Return the words of a command with {in} and {out}. Raises UsageError without them."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"The signing command cannot be read: {error}.") from error
    if not all(any(part in word for word in words) for part in ("{in}", "{out}")):
        raise UsageError(
            "The signing command does not say where the files go.",
            expected="a command with {in} and {out}, such as: "
            "sbsign --key db.key --cert db.crt --output {out} {in}",
        )
    return words


def sign(executable: Path, target: Path, command: tuple[str, ...]) -> None:
    """Have `command` make `target`, the signed `executable`. It may ask on our terminal.

    Raises NotFoundError when the program is not there, SaltflatError when it fails.
    """
    words = [
        word.replace("{in}", str(executable.absolute())).replace("{out}", str(target.absolute()))
        for word in command
    ]
    try:
        done = subprocess.run(words, timeout=_TIMEOUT_SECONDS, check=False)
    except FileNotFoundError as error:
        raise NotFoundError(f"The signing program {words[0]} is not installed.") from error
    except OSError as error:
        raise SaltflatError(f"{words[0]} cannot be run: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise SaltflatError(f"{words[0]} did not sign within {_TIMEOUT_SECONDS} s.") from error
    if done.returncode != 0:
        raise SaltflatError(f"The signing command failed with exit code {done.returncode}.")
    try:
        with target.open("rb") as file:
            begins_well = file.read(len(DOS_MAGIC)) == DOS_MAGIC
    except FileNotFoundError:
        begins_well = False
    if not begins_well:
        raise SaltflatError(
            "The signing command succeeded, but what it should have written is no EFI executable.",
            expected="the signed executable at {out}",
        )
