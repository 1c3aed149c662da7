"""Read a streamOptimized disk in one pass, as a pipe would bring it. Owns what its markers may say.

Grains are taken by the markers before them, which say where each belongs; tables and directory,
which are for who wants to seek, are passed over. A file may come from anywhere, so it is hostile
until checked (VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents").
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from converter.errors import IntegrityError
from converter.vmdk.c_vmdk import (
    GRAIN_MARKER,
    GRAIN_SIZE_MAX,
    GRAIN_SIZE_MIN,
    GT_SIZE,
    MARKER_EOS,
    MARKER_FOOTER,
    MARKER_GD,
    MARKER_GT,
    METADATA_MARKER,
    SECTOR,
    SPARSE_EXTENT_HEADER,
    SPARSE_MAGICNUMBER,
    SPARSEFLAG_COMPRESSED,
    SPARSEFLAG_EMBEDDED_LBA,
    GrainMarker,
    MetadataMarker,
    SparseExtentHeader,
)

_WANTED_FLAGS = SPARSEFLAG_COMPRESSED | SPARSEFLAG_EMBEDDED_LBA
_METADATA = (MARKER_GT, MARKER_GD, MARKER_FOOTER)


class StreamReader:
    """A streamOptimized disk that is read from its beginning; `name` is for errors."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read the header. Raises IntegrityError, OSError."""
        self._file = file
        self._name = name
        header = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack(self._take(SECTOR)))
        grain = header.grainSize
        if (
            header.magicNumber != SPARSE_MAGICNUMBER
            or header.flags & _WANTED_FLAGS != _WANTED_FLAGS
        ):
            raise self._fault("it is no streamOptimized disk")
        if not GRAIN_SIZE_MIN <= grain <= GRAIN_SIZE_MAX or grain & (grain - 1):
            raise self._fault(f"its grains have {grain} sectors")
        self._grain_sectors = grain
        self._capacity_sectors = header.capacity
        self._skip((header.overHead - 1) * SECTOR)

    @property
    def capacity_bytes(self) -> int:
        """The disk's size."""
        return self._capacity_sectors * SECTOR

    def grains(self) -> Iterator[tuple[int, bytes]]:
        """Yield (byte offset, content) of each grain that is there, ascending; once.

        All else is zeros. Raises IntegrityError, also when the end is missing; OSError.
        """
        next_sector = 0
        while True:
            sector = self._take(SECTOR)
            grain = GrainMarker._make(GRAIN_MARKER.unpack_from(sector))
            if grain.size:
                if grain.lba % self._grain_sectors or not (
                    next_sector <= grain.lba < self._capacity_sectors
                ):
                    raise self._fault(f"a grain is to be at sector {grain.lba}")
                next_sector = grain.lba + self._grain_sectors
                yield grain.lba * SECTOR, self._grain(sector, grain)
                continue
            marker = MetadataMarker._make(METADATA_MARKER.unpack(sector))
            if marker.type == MARKER_EOS:
                return
            if marker.type not in _METADATA or (
                marker.type == MARKER_GT and marker.numSectors != GT_SIZE
            ):
                raise self._fault(f"it has a marker of type {marker.type}")
            self._skip(marker.numSectors * SECTOR)

    def _grain(self, sector: bytes, marker: GrainMarker) -> bytes:
        """Return a grain's content; `sector` is its marker's, where its data begins."""
        size = self._grain_sectors * SECTOR
        if marker.size > 2 * size:  # what cannot be made smaller grows by a few bytes
            raise self._fault(f"the grain at sector {marker.lba} is packed in {marker.size} bytes")
        whole = GRAIN_MARKER.size + marker.size
        more = -(-whole // SECTOR) * SECTOR - SECTOR
        packed = (sector + self._take(more))[GRAIN_MARKER.size : whole]
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(packed, size)
        except zlib.error as error:
            raise self._fault(f"the grain at sector {marker.lba} is damaged: {error}") from error
        rest = (self._capacity_sectors - marker.lba) * SECTOR
        if not unpacker.eof or len(data) < min(size, rest):
            raise self._fault(f"the grain at sector {marker.lba} is not a grain long")
        return data[:rest]

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._take(min(size, 1 << 20)))

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._fault("it is cut short")
        return data

    def _fault(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._name} is not a sound streamOptimized VMDK: {what}.")
