"""What one member of a layer says, whatever archive it came from. Owns `Entry` and `Kind`.

Imports nothing of ours: the tar reader makes entries, `converter.rootfs` applies them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

SECOND_NS = 10**9  # times of members are nanoseconds since 1970
Segments = tuple[tuple[int, int], ...]


class Kind(IntEnum):
    """What an entry is. The values below 8 are the file types that ext4 keeps in a directory."""

    FILE = 1
    DIRECTORY = 2
    CHARACTER = 3
    BLOCK = 4
    FIFO = 5
    SYMLINK = 7
    HARDLINK = 8
    WHITEOUT = 9  # the path's name in the lower layers is gone
    OPAQUE = 10  # every name that lower layers put into the directory `path` is gone
    GONE = 11  # the path's name is gone, whichever layer put it there


class Entry(NamedTuple):
    """One member: a tuple and not a dataclass, because a layer may have millions of them.

    `path` and a hard link's `target` are normalised: components joined by b"/", none of them empty,
    b"." or b"..", no slash at either end; b"" is the root. A symlink's `target` is its text as it
    is. `mode` has the twelve permission bits. `xattrs` are sorted pairs of full name and value.
    `data` yields exactly `size` bytes and can be read once, before the next entry is asked for.

    A file with holes has `segments`: pairs of offset and length, not empty, ascending, apart from
    each other and within `size`; `data` then yields their bytes alone. None is a file without.
    """

    path: bytes
    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    data: Iterable[memoryview] = ()
    segments: Segments | None = None
