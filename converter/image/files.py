"""Where images lie that are on this host: named files, in a folder or in an archive.

Owns what both have in common and the folder; archives are `converter.image.archive`. A name is that
of an OCI image layout ("blobs/sha256/..."), never a path that somebody else chose.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from converter.errors import IntegrityError

_CHUNK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that lie on this host, not verified.

    `open` returns an unbuffered file of the caller's own that begins and ends with them; it raises
    OSError and, if they have gone, IntegrityError.
    """

    size_bytes: int
    open: Callable[[], BinaryIO]

    @contextmanager
    def chunks(self) -> Iterator[Iterator[bytes]]:
        """Yield the bytes in chunks. Raises as `open` does."""
        with self.open() as file:
            yield iter(lambda: file.read(_CHUNK_BYTES), b"")

    def head(self, size_bytes: int) -> bytes:
        """Return the first `size_bytes`, or fewer if there are no more. Raises as `open` does."""
        found = bytearray()
        with self.open() as file:
            while len(found) < size_bytes and (piece := file.read(size_bytes - len(found))):
                found += piece
        return bytes(found)


class Files(Protocol):
    """Named files. `place` is what messages call it, `kind` what it is ("a folder")."""

    @property
    def place(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def find(self, name: str) -> Content | None:
        """Return the file `name`, or None. Raises IntegrityError for what is no regular file."""


class Folder:
    """The files in a folder. It may come from anywhere: nothing but regular files is opened."""

    kind = "a folder"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def find(self, name: str) -> Content | None:
        """Return the file `name`, or None. Raises IntegrityError for what is no regular file."""
        try:
            return whole_file(self._path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None


def whole_file(path: Path) -> Content:
    """Return the content of a file. Raises OSError, and IntegrityError if it is not regular."""
    with _open_regular(path) as file:
        return Content(os.fstat(file.fileno()).st_size, partial(_open_regular, path))


def _open_regular(path: Path) -> BinaryIO:
    # O_NONBLOCK: opening a FIFO or a device returns at once, so that it can be refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path} is not a regular file.")
    return open(descriptor, "rb", buffering=0)
