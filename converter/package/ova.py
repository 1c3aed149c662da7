"""Write an OVA: the files of a package in one POSIX ustar archive, the descriptor first.

Owns the archive's bytes, which follow from the files alone: no time, no owner. The descriptor and
the manifest stand in front of the disks and say what those are, so the room in front is left free
at first: a disk goes straight to its place, and nothing is written twice. Sources: DSP0243 1.1.0
section 5.3 (ustar as POSIX 1003.1 has it, and the order), POSIX.1-2017 pax, "ustar Interchange
Format".
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SaltflatError, UsageError
from converter.layer.c_tar import (
    BLOCK_SIZE,
    CHKSUM_OFFSET,
    CHKSUM_SIZE,
    HEADER,
    REGTYPE,
    USTAR_MAGIC,
)
from converter.vmdk.writing import put

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

# Eleven octal digits. Larger numbers are GNU's, which the specification of OVF does not allow and
# which not every importer reads.
MAX_MEMBER_BYTES = (1 << 33) - 1
_NAME_BYTES = 100
_VERSION = b"00"
_MODE = 0o644
_END = bytes(2 * BLOCK_SIZE)


class HashedFile(io.RawIOBase):
    """Passes what is written on to `file`, and knows its SHA-256 and how much it was."""

    def __init__(self, file: BinaryIO, *, limit_bytes: int | None = None, name: str = "") -> None:
        """Begin with nothing; more than `limit_bytes` is a SaltflatError that names `name`."""
        self._file = file
        self._limit_bytes = limit_bytes
        self._name = name
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Write all of `data`. Raises OSError, SaltflatError."""
        view = memoryview(data).cast("B")
        self.size_bytes += len(view)
        if self._limit_bytes is not None and self.size_bytes > self._limit_bytes:
            raise SaltflatError(
                f"{self._name} takes more than {self._limit_bytes} bytes: too much for an OVA.",
                expected="files below 8 GiB: the archive's format has no larger numbers",
                hint="Export it as --type ovf: the same package in a folder.",
            )
        self._sha256.update(view)
        put(self._file, view)
        return len(view)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written, in hex."""
        return self._sha256.hexdigest()


class OvaWriter:
    """Write the members behind a front of known sizes, then `finish` with the front."""

    def __init__(self, file: BinaryIO, front: Sequence[tuple[str, int]]) -> None:
        """Leave room in `file`, which is empty and can seek, for (name, size in bytes) in order.

        Raises UsageError for a name that does not fit.
        """
        self._file = file
        self._front = front
        self._end = sum(len(ustar_header(name, size)) + _padded(size) for name, size in front)

    @contextmanager
    def member(self, name: str) -> Iterator[HashedFile]:
        """Yield where the next member's content goes. Raises UsageError, SaltflatError, OSError."""
        header_at = self._end
        ustar_header(name, 0)  # before the content, which takes long
        self._file.seek(header_at + BLOCK_SIZE)
        content = HashedFile(self._file, limit_bytes=MAX_MEMBER_BYTES, name=name)
        yield content
        self._end = header_at + BLOCK_SIZE + _padded(content.size_bytes)
        put(self._file, bytes(-content.size_bytes % BLOCK_SIZE))
        self._file.seek(header_at)
        put(self._file, ustar_header(name, content.size_bytes))

    def finish(self, contents: Sequence[tuple[str, bytes]]) -> None:
        """Write the front, (name, content) in order, and the end.

        Raises ValueError unless names and sizes are those that room was left for, OSError.
        """
        if [(name, len(content)) for name, content in contents] != list(self._front):
            raise ValueError("another front than room was left for")
        self._file.seek(self._end)
        put(self._file, _END)
        self._file.seek(0)
        for name, content in contents:
            put(self._file, ustar_header(name, len(content)) + content)
            put(self._file, bytes(-len(content) % BLOCK_SIZE))


def ustar_header(name: str, size_bytes: int) -> bytes:
    """Return the header of a regular file. Raises UsageError for a name that does not fit."""
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _NAME_BYTES:
        raise UsageError(
            f"{name!r} is too long for a file of an OVA.", expected=f"at most {_NAME_BYTES} bytes"
        )
    header = bytearray(
        HEADER.pack(
            encoded,
            *(b"%07o" % _MODE, b"%07o" % 0, b"%07o" % 0),  # mode, uid, gid
            *(b"%011o" % size_bytes, b"%011o" % 0),  # size, mtime
            b" " * CHKSUM_SIZE,  # as which it counts in its own sum
            *(REGTYPE, b"", USTAR_MAGIC + _VERSION),
            *(b"%07o" % 0, b"%07o" % 0, b""),  # devmajor, devminor, prefix
        )
    )
    header[CHKSUM_OFFSET : CHKSUM_OFFSET + CHKSUM_SIZE] = b"%06o\0 " % sum(header)
    return bytes(header)


def _padded(size_bytes: int) -> int:
    return size_bytes + -size_bytes % BLOCK_SIZE
