"""Copy files between host and guest, as `docker cp` does: tar streams through the relay.

Owns the order: look at both ends, decide where the copy lands (landing.py), move the stream. What
the guest sends is hostile, and unpack.py is what meets it; pack.py makes what it is sent.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.host.client.connection import Address, Connection
from agent.host.client.landing import (
    Kind,
    Landing,
    Source,
    clean,
    land,
    wants_contents,
    wants_folder,
)
from agent.host.client.pack import Packed, pack
from agent.host.client.ready import until_started
from agent.host.client.transfer import Transfer
from agent.host.client.unpack import Limits, Unpacked, first_member, unpack
from agent.host.errors import CopyError

_MOST_LINKS = 40  # as Linux follows


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path of the guest; `link` is where it leads when it is a symbolic link."""

    kind: Kind
    link: str | None = None


def look(address: Address, path: str, *, follow: bool = False) -> Found | None:
    """Return what is at `path` in the guest; None: nothing. Raises CopyError."""
    until_started(address)
    with Connection(address) as connection:
        connection.ask({"type": "copy-out", "path": path, "follow": follow, "shallow": True})
        transfer = Transfer(connection)
        member = first_member(transfer)
        if member is None:
            transfer.finish()
            if os.strerror(2) in transfer.said:
                return None
            raise transfer.failure(f"{path!r} cannot be looked at")
    if member.isdir():
        return Found(Kind.FOLDER)
    if member.issym():
        return Found(Kind.OTHER, member.linkname)
    return Found(Kind.FILE if member.isreg() else Kind.OTHER)


def copy_out(
    address: Address,
    source: str,
    target: str,
    *,
    follow: bool = False,
    keep_owners: bool = False,
    limits: Limits | None = None,
) -> Unpacked:
    """Copy the file or folder `source` of the guest to `target` on the host, by docker's rules.

    With `follow` a symbolic link there is what it leads to. Everything belongs to us unless
    `keep_owners`, which takes root. Nothing outside of where it lands is ever written, whatever the
    guest sends. Returns what was made; raises CopyError.
    """
    if keep_owners and os.geteuid() != 0:
        raise CopyError("Only root can keep the owners of what it copies.")
    source = _absolute(source)
    found = look(address, source, follow=follow)
    if found is None:
        raise CopyError(f"{source} is not there in the guest.")
    contents = wants_contents(source) or source == "/"
    what = Source(
        posixpath.basename(source.rstrip("/")), found.kind is Kind.FOLDER, contents=contents
    )
    there = os.path.realpath(target) if os.path.islink(target) else target  # noqa: PTH114 - text
    landing = land(what, there, _kind_here(there))
    if contents and landing.name is not None:
        # `dir/.` becomes a folder of another name: ask for the folder, whose name can be changed.
        source, follow = source.removesuffix("/.") or "/", True
    folder = _open_folder(landing.folder)
    try:
        with Connection(address) as connection:
            connection.ask({"type": "copy-out", "path": source, "follow": follow})
            transfer = Transfer(connection)
            try:
                done = unpack(
                    transfer, folder, rename=landing.name, limits=limits, keep_owners=keep_owners
                )
            except CopyError:
                if transfer.status is not None and transfer.status.code:
                    raise transfer.failure(f"{source!r} could not be copied") from None
                raise
            if transfer.finish().code:
                raise transfer.failure(f"{source!r} could not be copied whole")
            return done
    finally:
        os.close(folder)


def copy_in(
    address: Address,
    source: str,
    target: str,
    *,
    follow: bool = False,
    keep_owners: bool = False,
) -> Packed:
    """Copy the file or folder `source` of the host to `target` in the guest, by docker's rules.

    With `follow` a symbolic link `source` is what it leads to; those below it are copied as links.
    Everything belongs to the guest's root unless `keep_owners`. Returns what was sent. Raises
    CopyError.
    """
    try:
        status = Path(source).stat(follow_symlinks=follow or wants_folder(source))
    except OSError as error:
        raise CopyError(f"{source} cannot be copied: {error.strerror}.") from error
    if wants_folder(source) and not stat.S_ISDIR(status.st_mode):
        raise CopyError(f"{source} is no folder.", expected="a folder, as the path ends like one")
    what = Source(
        os.path.basename(os.path.realpath(source) if wants_folder(source) else source),  # noqa: PTH119 - text
        stat.S_ISDIR(status.st_mode),
        contents=wants_contents(source),
    )
    landing = _land_there(address, what, target)
    path = os.path.realpath(source) if follow or wants_folder(source) else source
    with _copying_in(address, landing.folder) as connection:
        transfer = Transfer(connection)
        done = pack(transfer, path, landing.name, keep_owners=keep_owners)
        if transfer.end().code:
            raise transfer.failure(f"{source} could not be copied")
    return done


def _copying_in(address: Address, folder: str) -> Connection:
    connection = Connection(address)
    try:
        connection.ask({"type": "copy-in", "path": folder})
    except BaseException:
        connection.close()
        raise
    return connection


def send_archive(address: Address, pieces: Iterable[bytes], target: str) -> None:
    """Unpack a tar stream into the folder `target` of the guest, owners as it says.

    Raises CopyError.
    """
    target = _absolute(target)
    found = look(address, target, follow=True)
    if found is None or found.kind is not Kind.FOLDER:
        raise CopyError(
            f"{target} is no folder in the guest.", expected="a folder that takes an archive"
        )
    with _copying_in(address, target) as connection:
        transfer = Transfer(connection)
        for piece in pieces:
            transfer.write(piece)
        if transfer.end().code:
            raise transfer.failure("The archive could not be unpacked")


def receive_archive(
    address: Address, source: str, write: Callable[[bytes], object], *, follow: bool = False
) -> None:
    """Hand the tar stream of `source` to `write`, as the guest sends it. Raises CopyError."""
    source = _absolute(source)
    until_started(address)
    with Connection(address) as connection:
        connection.ask({"type": "copy-out", "path": source, "follow": follow})
        transfer = Transfer(connection)
        while data := transfer.read_some():
            write(data)
        if transfer.finish().code:
            raise transfer.failure(f"{source!r} could not be copied whole")


def _absolute(path: str) -> str:
    """Return a path of the guest, in which every path begins at the root."""
    return clean(f"/{path}")


def _land_there(address: Address, what: Source, target: str) -> Landing:
    """Say where a copy to the guest lands. A link there is followed, also one to nothing yet."""
    ends_as_folder = wants_folder(target)
    path = _absolute(target).removesuffix("/.").rstrip("/") or "/"
    for _ in range(_MOST_LINKS):
        found = look(address, path)
        if found is None or found.link is None:
            kind = None if found is None else found.kind
            return land(what, f"{path}/" if ends_as_folder and path != "/" else path, kind)
        # Not cleaned: `..` behind a link means what the guest's kernel makes of it.
        path = posixpath.join(posixpath.dirname(path), found.link)
    raise CopyError(f"{target} leads from link to link in the guest.")


def _kind_here(path: str) -> Kind | None:
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CopyError(f"{path} cannot be looked at: {error.strerror}.") from error
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.FILE if stat.S_ISREG(mode) else Kind.OTHER


def _open_folder(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CopyError(
            f"{path} cannot be written to: {error.strerror}.", expected="a folder that is there"
        ) from error
