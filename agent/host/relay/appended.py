"""A small file that grows by appending, and is written anew when it has grown too much.

Owns what journal and spool have in common: an entry is written with one write(2) or is not there,
what is torn at the end is cut off at start, and a shorter file takes the place of the longer one.
Knows nothing of what an entry is.
"""

from __future__ import annotations

import os
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class AppendedFile:
    """The file at `path`, of `size` bytes. Everything raises OSError, and then changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._descriptor = -1

    def open(self) -> None:
        """Open it; make it when it is not there."""
        self._descriptor = os.open(self.path, _FLAGS, 0o600)
        self.size = os.fstat(self._descriptor).st_size

    def read(self) -> bytes:
        """Return all that is in it."""
        return os.pread(self._descriptor, self.size, 0)

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def append(self, data: bytes) -> None:
        """Append all of it, or nothing."""
        try:
            self._write(self._descriptor, data, self.size)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def replace(self, data: bytes) -> None:
        """Let `data` be all that is in it, at one instant."""
        new = self.path.with_suffix(".new")
        opened = os.open(new, _FLAGS | os.O_TRUNC, 0o600)
        try:
            self._write(opened, data, 0)
            new.replace(self.path)
        except OSError:
            os.close(opened)
            raise
        self.close()
        self._descriptor, self.size = opened, len(data)

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, descriptor: int, data: bytes, offset: int) -> None:
        written = os.pwrite(descriptor, data, offset)
        if written < len(data):
            raise OSError(f"{written} of {len(data)} bytes were written to {self.path}")
