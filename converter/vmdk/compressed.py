"""Read the grains of a streamOptimized extent. Owns their markers, and what they may unfold to.

Both dialects are taken: directory and tables behind the grains, found by a footer, as the
specification has it, and in front of them, as QEMU and open-vmdk write it. A grain never unfolds to
more than its size, whatever it promises.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

from converter.vmdk.c_vmdk import (
    GRAIN_MARKER,
    SECTOR,
    GrainMarker,
    SparseExtentHeader,
)
from converter.vmdk.disk_file import DiskFile
from converter.vmdk.extent import Piece
from converter.vmdk.hosted import SparseExtent

_CACHE_BYTES = 1 << 20  # of grains per open extent
# Deflate adds a few bytes to what it cannot compress; QEMU draws the line here too.
_PACKED_GRAINS_MAX = 2


class CompressedExtent(SparseExtent):
    """An open streamOptimized extent."""

    def __init__(self, file: DiskFile, header: SparseExtentHeader) -> None:
        """Take over `file`, which begins with `header`."""
        super().__init__(file, header)
        self.grain_file_sectors = 1  # a marker at least; its data is looked at when it is read
        kept = max(1, _CACHE_BYTES // self.grain_bytes)
        self._grain = lru_cache(maxsize=kept)(self.read_grain)

    def read_data(self, piece: Piece, view: memoryview) -> None:
        """Unfold the grains of `piece` into `view`."""
        number, begin = divmod(piece.offset, self.grain_bytes)
        at = 0
        while at < len(view):
            part = self._grain(number)[begin : begin + len(view) - at]
            view[at : at + len(part)] = part
            at += len(part)
            number, begin = number + 1, 0

    def read_grain(self, number: int) -> bytes:
        """Return grain `number`, which is there; of the last one, what is within the capacity.

        Raises IntegrityError for a marker that is another grain's and for data that does not
        unfold to exactly one grain.
        """
        index, slot = divmod(number, self.table_entries)
        entry = self._table(index)[slot]
        sector = self.grain_sector(index, slot, entry)
        packed = self._packed(number, sector)
        unfolder = zlib.decompressobj()
        try:
            data = unfolder.decompress(packed, self.grain_bytes + 1)
        except zlib.error as error:
            self.file.fail(f"the grain at sector {sector} does not unfold: {error}")
        wanted = min(self.grain_bytes, self.capacity_bytes - number * self.grain_bytes)
        if not wanted <= len(data) <= self.grain_bytes or not unfolder.eof:
            self.file.fail(f"the grain at sector {sector} does not unfold to {wanted} bytes")
        return data[:wanted]

    def _marker(self, number: int, sector: int) -> GrainMarker:
        position = sector * SECTOR
        marker = GrainMarker._make(
            GRAIN_MARKER.unpack(self.file.read_at(position, GRAIN_MARKER.size))
        )
        if marker.lba != number * self.header.grainSize:
            self.file.fail(
                f"the grain at sector {sector} is that of sector {marker.lba} of the disk, "
                f"not of {number * self.header.grainSize}"
            )
        if not 0 < marker.size <= _PACKED_GRAINS_MAX * max(self.grain_bytes, SECTOR):
            self.file.fail(f"the grain at sector {sector} has {marker.size} compressed bytes")
        if position + GRAIN_MARKER.size + marker.size > self.file.size_bytes:
            self.file.fail(f"the grain at sector {sector} ends beyond the end of the file")
        return marker

    def _packed(self, number: int, sector: int) -> bytes:
        marker = self._marker(number, sector)
        return self.file.read_at(sector * SECTOR + GRAIN_MARKER.size, marker.size)
