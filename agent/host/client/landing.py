"""Where a copy ends up, by the rules of `docker cp`, the same in both directions. Pure.

Owns the rules; what is at the destination is looked at by whoever asks. Paths are POSIX paths.
"""

from __future__ import annotations

import enum
import posixpath
from dataclasses import dataclass

from agent.host.errors import CopyError


class Kind(enum.Enum):
    """What is at a path, links followed."""

    FOLDER = enum.auto()
    FILE = enum.auto()
    OTHER = enum.auto()


@dataclass(frozen=True, slots=True)
class Source:
    """What is copied: its last name, and whether it is a folder, of which only the `contents`."""

    name: str
    is_folder: bool = False
    contents: bool = False


@dataclass(frozen=True, slots=True)
class Landing:
    """The folder that a copy goes into, and its name there.

    None: what is in the source goes into the folder under its own names.
    """

    folder: str
    name: str | None


def clean(path: str) -> str:
    """Return a path without "..", "." and double slashes, but with a "/" or "/." at its end."""
    end = "/." if path == "." or path.endswith("/.") else "/" if path.endswith("/") else ""
    short = posixpath.normpath(path or ".")
    if short.startswith("//"):  # which POSIX lets mean something of its own
        short = short[1:]
    return f"{short.removesuffix('/')}{end}" or "/"


def wants_contents(path: str) -> bool:
    """Say whether a path means what is in a folder rather than the folder: `.` or `dir/.`."""
    return posixpath.basename(path) == "."


def wants_folder(path: str) -> bool:
    """Say whether a path can only be a folder's, by its end."""
    return path.endswith("/") or posixpath.basename(path) in {".", ".."}


def land(source: Source, target: str, kind: Kind | None) -> Landing:
    """Return where `source` lands when it is copied to the path `target`, at which `kind` is.

    A folder takes what is copied, under the source's name, or the contents. What does not exist
    becomes the copy; its folder must exist. A file takes a file's place. Raises CopyError.
    """
    if kind is Kind.FOLDER:
        return Landing(target, None if source.contents else source.name)
    if kind is Kind.OTHER:
        raise CopyError(
            f"{target} is neither a file nor a folder.", expected="one of them, or a new name"
        )
    if kind is Kind.FILE and (source.is_folder or wants_folder(target)):
        raise CopyError(
            f"{target} is a file.",
            expected="a folder, or a new name" if source.is_folder else "a folder",
            hint="A folder is never copied over a file."
            if source.is_folder
            else "Leave out the slash at its end to replace the file.",
        )
    if kind is None and wants_folder(target) and not source.is_folder:
        raise CopyError(
            f"The folder {target} does not exist.",
            expected="a folder that is there, as the path ends like a folder's",
            hint="Make it first, or leave out the slash to give the copy that name.",
        )
    above, name = posixpath.split(target.removesuffix("/.").rstrip("/"))
    return Landing(above or ("/" if target.startswith("/") else "."), name)
