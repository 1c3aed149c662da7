"""Files that are whole or absent: temp in the same folder, fsync, rename. Imports nothing of ours.

A crash at any instant leaves either no final name or the complete file. Temps are named
`.tmp-<pid>-<n>-<name>`, so that a later run recognises those of dead processes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMP_PREFIX = ".tmp-"
_serial = itertools.count()


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield an unbuffered, seekable file that gets its name `path` only if the block succeeds.

    The data is fsynced before the rename and the folder after it. `mode` is exact: the umask does
    not change it. Raises OSError; on any error the temp is removed and `path` is untouched.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{os.getpid()}-{next(_serial)}-{path.name}")
    descriptor = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb+", buffering=0) as file:
            yield file
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temp.rename(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temp.unlink()
        raise
    sync_directory(path.parent)


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
