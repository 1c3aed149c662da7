"""Read a file of a boot image: a regular one, and no larger than one of ours can be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from converter.errors import IntegrityError

LIMIT_BYTES = 1 << 30


def read_file(path: Path) -> bytes:
    """Return the content of the file `path`. Raises IntegrityError for what is none, OSError."""
    # Without O_NONBLOCK, opening a FIFO that someone put there would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError("it is no file")
        check_size(found.st_size)
        return file.read(LIMIT_BYTES)


def check_size(size_bytes: int) -> int:
    """Return a size that a file of a boot image can have. Raises IntegrityError for others."""
    if size_bytes > LIMIT_BYTES:
        raise IntegrityError(f"it is {size_bytes} bytes long, which nothing of a boot image is")
    return size_bytes
