"""One open file of a link: its descriptor or an extent. Owns the open file and whole reads of it.

Nothing is known here of what stands in it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NoReturn

from converter.errors import IntegrityError, NotFoundError
from converter.vmdk.c_vmdk import SECTOR


class DiskFile:
    """An open regular file; `close()` it. Its size is that at the time of opening."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over the open file `descriptor`; use `open_disk_file`."""
        self.path = path
        self._fd = descriptor
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self.fail("it is not a regular file")
        except BaseException:
            self.close()
            raise
        self.file_id = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size

    @property
    def sectors(self) -> int:
        """Count the whole sectors of the file."""
        return self.size_bytes // SECTOR

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fail(self, fault: str) -> NoReturn:
        """Raise IntegrityError for this file: `fault` is a clause about `it`."""
        raise IntegrityError(
            f"{self.path} is not a sound VMDK link: {fault}.",
            expected="a VMDK link that is whole",
            hint="Make it anew from its image, or fetch it again.",
        )

    def require_whole_sectors(self) -> None:
        """Raise IntegrityError unless the file is a number of sectors, and not of none."""
        if not self.size_bytes or self.size_bytes % SECTOR:
            self.fail(f"its size of {self.size_bytes} bytes is not a number of sectors")

    def read_at(self, position: int, length: int) -> bytes:
        """Read exactly `length` bytes, raw. Raises IntegrityError at the end of the file."""
        data = bytearray(length)
        self.read_into(position, memoryview(data))
        return bytes(data)

    def read_into(self, position: int, view: memoryview) -> None:
        """Fill `view` from byte `position` on. Raises IntegrityError at the end of the file."""
        while view:
            count = os.preadv(self._fd, [view], position)
            if not count:
                self.fail(f"it ends at byte {position}, in the middle of what it promised")
            view = view[count:]
            position += count

    def next_data(self, position: int) -> int:
        """Return where the first byte at or after `position` is that is not in a hole.

        That is the end of the file if there is none.
        """
        try:
            return os.lseek(self._fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which means: a hole up to the end
                raise
            return self.size_bytes

    def next_hole(self, position: int) -> int:
        """Return where the first hole at or after `position`, which is in the file, begins.

        The end of the file is one.
        """
        return os.lseek(self._fd, position, os.SEEK_HOLE)


def open_disk_file(path: Path, *, follow_symlink: bool = True) -> DiskFile:
    """Open the regular file at `path`. Raises NotFoundError, IntegrityError, OSError."""
    # Without O_NONBLOCK, opening a FIFO that someone put there would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if not follow_symlink:
        flags |= os.O_NOFOLLOW
        if path.is_symlink():
            raise IntegrityError(
                f"{path} is not a sound VMDK link: it is a symbolic link to somewhere else."
            )
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no VMDK link {path}.") from error
    return DiskFile(path, descriptor)
