"""Files that are whole or absent: temp in the same folder, fsync, rename. Imports nothing of ours.

A crash at any instant leaves either no final name or the complete file. Temps are named
`.tmp-<pid>-<n>-<name>`, so that a later run recognises those of dead processes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

TEMP_PREFIX = ".tmp-"
_serial = itertools.count()
_WRITEBACK_BYTES = 8 << 20


class EagerFile(FileIO):
    """Lets the kernel write out what is there while more comes, so that fsync has little to do."""

    _begun = 0  # up to where writing out has begun

    def write(self, data: Buffer, /) -> int:
        count = super().write(data)
        end = self.tell()
        if end - self._begun >= _WRITEBACK_BYTES:
            # Begins to write dirty pages and does not wait; pages that are dirty are not dropped.
            os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
        return count


class AtomicFile:
    """A file in the making: unbuffered and seekable, nameless until `commit`.

    `temp` is its name until then. `mode` is exact: the umask does not change it. All methods raise
    OSError.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        """Create the temp beside `path`."""
        self.path = path
        self._mode = mode
        self.temp = path.with_name(f"{TEMP_PREFIX}{os.getpid()}-{next(_serial)}-{path.name}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.file = EagerFile(os.open(self.temp, flags, 0o600), "r+")

    def commit(self) -> None:
        """Make data and name durable, the data first."""
        with self.file:
            os.fchmod(self.file.fileno(), self._mode)
            os.fsync(self.file.fileno())
        self.temp.rename(self.path)
        sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the temp; `path` is untouched. May be called at any time, even twice."""
        self.file.close()
        with suppress(FileNotFoundError):
            self.temp.unlink()


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield an unbuffered, seekable file that gets its name `path` only if the block succeeds.

    `mode` is exact. Raises OSError; on any error `path` is as it was.
    """
    pending = AtomicFile(path, mode=mode)
    try:
        yield pending.file
        pending.commit()
    except BaseException:
        pending.discard()
        raise


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make `path` hold exactly `data`, or leave it as it was. Raises OSError."""
    with atomic_file(path, mode=mode) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def sync_directory(path: Path) -> None:
    """Make the names in folder `path` durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
