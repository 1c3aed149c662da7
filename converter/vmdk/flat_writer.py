"""Write a flat extent: a raw file that is a hole where the disk is zeros. Its descriptor is apart.

The descriptor is `converter.vmdk.descriptor.link_descriptor` of the type monolithicFlat or vmfs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from converter.vmdk.c_vmdk import SECTOR
from converter.vmdk.writing import HOLE_BYTES, Ascending, LinkSummary, put, runs

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_ZEROS = bytes(HOLE_BYTES)


class FlatWriter:
    """Write one disk, piece after piece, then `finish()`. Its grains are blocks of 4 KiB.

    A flat disk has no parent: what is never written is zeros.
    """

    grain_bytes = HOLE_BYTES

    def __init__(self, file: BinaryIO, *, capacity_bytes: int) -> None:
        """Begin a disk in `file`: empty, seekable, unbuffered, and nobody else's until the end.

        Raises ValueError unless the capacity is a number of blocks.
        """
        if capacity_bytes <= 0 or capacity_bytes % HOLE_BYTES:
            raise ValueError(f"capacity of {capacity_bytes} bytes")
        self._file = file
        self._capacity_bytes = capacity_bytes
        self._rules = Ascending(capacity_bytes, HOLE_BYTES)
        self._blocks = 0

    def write(self, offset: int, data: Buffer) -> None:
        """Write whole blocks at byte `offset`, as `DiskWriter` says."""
        for is_zero, run in runs(self._rules.take(offset, data), _ZEROS):
            if not is_zero:
                self._file.seek(offset)
                put(self._file, run)
                self._blocks += len(run) // HOLE_BYTES
            offset += len(run)

    def finish(self) -> LinkSummary:
        """Give the file its size."""
        self._file.truncate(self._capacity_bytes)
        return LinkSummary(self._blocks, 0, self._capacity_bytes)


assert HOLE_BYTES % SECTOR == 0
