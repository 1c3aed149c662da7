"""Write and read an initramfs archive. Owns the newc byte layout and its order; compresses nothing.

The same entries give the same bytes: inode numbers are positions, times are zero, owner is root,
entries are sorted by path, and parent folders that nobody named are added.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from converter.errors import IntegrityError
from tinykernel import c_newc


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One name of the initramfs: `path` relative to /, `mode` with its type bits (stat.S_IF*).

    `data` is a regular file's content or a symbolic link's target; folders have none.
    """

    path: str
    mode: int
    data: bytes = b""

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def directory(path: str, permissions: int = 0o755) -> ArchiveEntry:
    """Describe a folder."""
    return ArchiveEntry(path, stat.S_IFDIR | permissions)


def regular(path: str, data: bytes, permissions: int = 0o644) -> ArchiveEntry:
    """Describe a regular file."""
    return ArchiveEntry(path, stat.S_IFREG | permissions, data)


def symlink(path: str, target: str) -> ArchiveEntry:
    """Describe a symbolic link."""
    return ArchiveEntry(path, stat.S_IFLNK | 0o777, target.encode())


def write_newc(entries: Iterable[ArchiveEntry]) -> Iterator[bytes]:
    """Yield the archive's bytes: `entries` as `in_order` has them, the trailer last.

    Raises as `in_order` does.
    """
    for inode, entry in enumerate(in_order(entries), start=1):
        yield _member(entry, inode)
    yield _member(ArchiveEntry(c_newc.TRAILER, 0), 0)


def in_order(entries: Iterable[ArchiveEntry]) -> list[ArchiveEntry]:
    """Return `entries` and the folders that they are in, each folder before what is in it.

    Raises ValueError when two entries claim one path or a path is not a plain relative one.
    """
    named: dict[str, ArchiveEntry] = {}
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if not parts or ".." in parts or str(PurePosixPath(entry.path)) != entry.path:
            raise ValueError(f"not a plain relative path: {entry.path!r}")
        if parts[0] == "/":
            raise ValueError(f"not a relative path: {entry.path!r}")
        if entry.path in named:
            raise ValueError(f"two entries claim {entry.path!r}")
        named[entry.path] = entry
    for path in list(named):
        for parent in list(PurePosixPath(path).parents)[:-1]:
            named.setdefault(str(parent), directory(str(parent)))
    # By parts, not by string: "a-b" must not come between "a" and "a/b". The kernel makes what it
    # reads at once, so a folder has to come before its content.
    return sorted(named.values(), key=lambda entry: PurePosixPath(entry.path).parts)


def read_newc_at(archive: bytes, start: int) -> tuple[list[ArchiveEntry], int]:
    """Return the members of the archive at byte `start` of `archive`, and where its trailer ends.

    Raises IntegrityError.
    """
    members: list[ArchiveEntry] = []
    at = start
    while True:
        name_at = at + c_newc.HEADER_SIZE
        header = c_newc.HEADER.fullmatch(archive, at, name_at)
        if header is None:
            raise IntegrityError(f"the initramfs is damaged at byte {at}: no member begins there")
        digits = header[1]
        numbers = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
        values = dict(zip(c_newc.FIELDS, numbers, strict=True))
        name_end = name_at + values["namesize"]
        data_at = _aligned(name_end, start)
        end = data_at + values["filesize"]
        if end > len(archive) or not values["namesize"]:
            raise IntegrityError(f"the initramfs is cut short in the member at byte {at}")
        name = archive[name_at : name_end - 1].decode("utf-8", "surrogateescape")
        at = _aligned(end, start)
        if name == c_newc.TRAILER:
            return members, at
        members.append(ArchiveEntry(name, values["mode"], archive[data_at:end]))


def _aligned(offset: int, start: int) -> int:
    """Return the next place, counted from the archive's `start`, at which something may begin."""
    return offset + -(offset - start) % c_newc.ALIGNMENT


def _member(entry: ArchiveEntry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    values = dict.fromkeys(c_newc.FIELDS, 0)
    values["ino"] = inode
    values["mode"] = entry.mode
    values["nlink"] = 2 if stat.S_ISDIR(entry.mode) else 1
    values["filesize"] = len(entry.data)
    values["namesize"] = len(name)
    header = c_newc.MAGIC + b"".join(b"%08X" % values[field] for field in c_newc.FIELDS)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % c_newc.ALIGNMENT)
