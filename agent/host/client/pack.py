"""Write a file or folder of the host as a tar stream, for a guest to unpack.

Links are never followed below what was asked for. Memory does not grow with the tree, but for the
hard links and the depth of it. Owns the walk and what the headers say.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol, cast

from agent.host.errors import CopyError

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Sink(Protocol):
    """Where the tar stream goes."""

    def write(self, data: bytes, /) -> int:
        """Take all of it."""


@dataclass(slots=True)
class Packed:
    """How much was sent, and how many devices and sockets were left out."""

    entries: int = 0
    bytes: int = 0
    left_out: int = 0


def pack(sink: Sink, source: str, name: str | None, *, keep_owners: bool) -> Packed:
    """Write `source`, called `name` in the archive; None: only what is in that folder.

    Everything belongs to root in the guest unless `keep_owners`. Devices and sockets are left out,
    as are extended attributes. Returns what was written. Raises CopyError.
    """
    done = Packed()
    links: dict[tuple[int, int], str] = {}
    try:
        with tarfile.open(
            fileobj=cast(IO[bytes], sink), mode="w|", format=tarfile.PAX_FORMAT
        ) as archive:
            for path, member in _walk(source, name):
                info = _describe(path, member, links)
                if info is None:
                    done.left_out += 1
                    continue
                if not keep_owners:
                    info.uid = info.gid = 0
                _add(archive, info, path)
                done.entries += 1
                done.bytes += info.size
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps them for ever
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        raise CopyError(
            f"{source} cannot be read whole: {error.strerror or error}{where}."
        ) from error
    return done


def _walk(source: str, name: str | None) -> Iterator[tuple[str, str]]:
    """Yield (path on the host, name in the archive), folders before what is in them."""
    stack = [_entries(source, "") if name is None else iter([(source, name)])]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        yield entry
        path, member = entry
        if stat.S_ISDIR(os.lstat(path).st_mode):
            stack.append(_entries(path, f"{member}/"))


def _entries(folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as listing:
        names = sorted(entry.name for entry in listing)
    return ((os.path.join(folder, name), prefix + name) for name in names)  # noqa: PTH118 - text


def _describe(path: str, member: str, links: dict[tuple[int, int], str]) -> tarfile.TarInfo | None:
    """Return a header without its size; None for what cannot be copied."""
    status = os.lstat(path)
    info = tarfile.TarInfo(member)
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = status.st_mtime
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(path)  # noqa: PTH115 - the text as it is
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
    elif not stat.S_ISREG(status.st_mode):
        return None
    elif status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), member)
        if first != member:
            info.type = tarfile.LNKTYPE
            info.linkname = first
    return info


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    if not info.isreg():
        archive.addfile(info)
        return
    with open(os.open(path, _FILE_FLAGS), "rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        archive.addfile(info, file)
