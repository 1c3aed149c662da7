"""Read flat extents, and those that are zeros. Owns what may be asked of a raw file.

A flat extent hides all that is below it. What the file system knows to be a hole is told as zeros,
so that nobody reads the empty part of a large disk.
"""

from __future__ import annotations

from converter.vmdk.c_vmdk import SECTOR
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.extent import ExtentReader, FileExtent, Kind, Piece

FLAT_GRAIN_BYTES = 65536  # ours: holes that do not fill one of these are read as data


class FlatExtent(FileExtent):
    """Sectors of a raw file from `offset` on; several extents may share a file."""

    grain_bytes = FLAT_GRAIN_BYTES

    def __init__(self, file: DiskFile, *, offset: int, sectors: int) -> None:
        """Take over `file`. Raises IntegrityError when it ends before the extent does."""
        if (offset + sectors) * SECTOR > file.size_bytes:
            file.fail(
                f"its size of {file.size_bytes} bytes is less than "
                f"the {sectors} sectors from sector {offset} on that its descriptor says"
            )
        super().__init__(file)
        self.capacity_bytes = sectors * SECTOR
        self._begin = offset * SECTOR

    def piece(self, offset: int, end: int) -> Piece:
        """Return what is data, or a hole of whole grains."""
        position, last = self._begin + offset, self._begin + end
        data = min(self.file.next_data(position), last)
        if data >= last:
            return Piece(Kind.ZERO, offset, end - offset)
        hole = (data - self._begin) // FLAT_GRAIN_BYTES * FLAT_GRAIN_BYTES
        if hole > offset:
            return Piece(Kind.ZERO, offset, hole - offset)
        up_to = self.file.next_hole(data) - self._begin
        up_to = -(-up_to // FLAT_GRAIN_BYTES) * FLAT_GRAIN_BYTES
        return Piece(Kind.DATA, offset, min(max(up_to, offset + 1), end) - offset, position)


class ZeroExtent(ExtentReader):
    """Zeros, without a file."""

    grain_bytes = FLAT_GRAIN_BYTES

    def __init__(self, sectors: int) -> None:
        """Stand for `sectors` of the disk."""
        self.capacity_bytes = sectors * SECTOR

    def piece(self, offset: int, end: int) -> Piece:
        """Return all of it."""
        return Piece(Kind.ZERO, offset, end - offset)

    def read_data(self, piece: Piece, view: memoryview) -> None:
        """Never asked: nothing in it is data."""
        raise AssertionError(piece)

    def close(self) -> None:
        """Do nothing: there is no file."""
