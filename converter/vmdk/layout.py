"""Where things stand in a hosted sparse extent. Owns the arithmetic of sectors; does no I/O.

Four layouts are written: a read-only link (grains first, then only the tables that hold
something), a writable one (every table, twice, before the first grain), and a compressed stream,
with the tables among the grains or all of them in front.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.vmdk.c_vmdk import (
    CAPACITY_MAX,
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SIZE,
    GDES_PER_SECTOR,
    GRAIN_SIZE_MAX,
    GRAIN_SIZE_MIN,
    GT_SIZE,
    NUM_GTES_PER_GT,
    SECTOR,
    SPARSE_COMPRESSALGORITHM_DEFLATE,
    SPARSE_COMPRESSALGORITHM_NONE,
    SPARSE_DOUBLE_END_LINE_CHAR1,
    SPARSE_DOUBLE_END_LINE_CHAR2,
    SPARSE_EXTENT_HEADER,
    SPARSE_MAGICNUMBER,
    SPARSE_NON_END_LINE_CHAR,
    SPARSE_SINGLE_END_LINE_CHAR,
    SPARSE_VERSION_MAGIC_GTE,
    SPARSE_VERSION_PLAIN,
    SPARSE_VERSION_STREAM,
    SPARSEFLAG_COMPRESSED,
    SPARSEFLAG_EMBEDDED_LBA,
    SPARSEFLAG_MAGIC_GTE,
    SPARSEFLAG_USE_REDUNDANT,
    SPARSEFLAG_VALID_NEWLINE_DETECTOR,
    SparseExtentHeader,
)

FRONT_SECTORS = DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE  # header and descriptor


@dataclass(frozen=True, slots=True)
class SparseLayout:
    """The counts that follow from a capacity and a grain size, both in sectors."""

    capacity: int
    grain: int

    @classmethod
    def for_writing(cls, capacity_bytes: int, grain_bytes: int) -> SparseLayout:
        """Return the layout of a link to be written. Raises ValueError for what none may have."""
        grain, odd_bytes = divmod(grain_bytes, SECTOR)
        if odd_bytes or grain & (grain - 1) or not GRAIN_SIZE_MIN <= grain <= GRAIN_SIZE_MAX:
            raise ValueError(f"grain of {grain_bytes} bytes")
        if capacity_bytes <= 0 or capacity_bytes % grain_bytes:
            raise ValueError(f"capacity of {capacity_bytes} bytes in grains of {grain_bytes}")
        if capacity_bytes > CAPACITY_MAX * SECTOR:
            raise ValueError(f"capacity of {capacity_bytes} bytes is above 2 TiB")
        return cls(capacity_bytes // SECTOR, grain)

    @property
    def grains(self) -> int:
        """Count the grains of the disk; the last one may reach beyond a foreign file's capacity."""
        return -(-self.capacity // self.grain)

    @property
    def tables(self) -> int:
        """Count the entries of the grain directory."""
        return -(-self.grains // NUM_GTES_PER_GT)

    @property
    def directory_sectors(self) -> int:
        """Count the sectors of a grain directory."""
        return -(-self.tables // GDES_PER_SECTOR)

    @property
    def all_tables_sectors(self) -> int:
        """Count the sectors of a grain directory and every table that it could name."""
        return self.directory_sectors + self.tables * GT_SIZE

    def round_up(self, sector: int) -> int:
        """Return the first sector at or after `sector` where a grain may begin."""
        return -(-sector // self.grain) * self.grain

    def read_only_header(
        self, *, directory_sector: int, holds_zeroed_grains: bool
    ) -> SparseExtentHeader:
        """Return the header of a link whose directory begins at `directory_sector`."""
        return self._header(
            version=SPARSE_VERSION_MAGIC_GTE if holds_zeroed_grains else SPARSE_VERSION_PLAIN,
            flags=SPARSEFLAG_MAGIC_GTE if holds_zeroed_grains else 0,
            rgd_sector=0,
            gd_sector=directory_sector,
            first_grain=self.round_up(FRONT_SECTORS),
        )

    def writable_header(self, *, holds_zeroed_grains: bool = False) -> SparseExtentHeader:
        """Return the header of a link with every table, twice, in front of the grains."""
        directory = FRONT_SECTORS + self.all_tables_sectors
        zeroed = SPARSEFLAG_MAGIC_GTE if holds_zeroed_grains else 0
        return self._header(
            version=SPARSE_VERSION_MAGIC_GTE if holds_zeroed_grains else SPARSE_VERSION_PLAIN,
            flags=SPARSEFLAG_USE_REDUNDANT | zeroed,
            rgd_sector=FRONT_SECTORS,
            gd_sector=directory,
            first_grain=self.round_up(directory + self.all_tables_sectors),
        )

    def stream_header(
        self, *, directory_sector: int, holds_zeroed_grains: bool, tables_in_front: bool = False
    ) -> SparseExtentHeader:
        """Return the header of a compressed extent, or its footer: they differ in the directory."""
        zeroed = SPARSEFLAG_MAGIC_GTE if holds_zeroed_grains else 0
        tables_sectors = self.all_tables_sectors if tables_in_front else 0
        return self._header(
            version=SPARSE_VERSION_STREAM,
            flags=SPARSEFLAG_COMPRESSED | SPARSEFLAG_EMBEDDED_LBA | zeroed,
            rgd_sector=0,
            gd_sector=directory_sector,
            first_grain=self.round_up(FRONT_SECTORS + tables_sectors),
            compression=SPARSE_COMPRESSALGORITHM_DEFLATE,
        )

    def _header(
        self,
        *,
        version: int,
        flags: int,
        rgd_sector: int,
        gd_sector: int,
        first_grain: int,
        compression: int = SPARSE_COMPRESSALGORITHM_NONE,
    ) -> SparseExtentHeader:
        return SparseExtentHeader(
            magicNumber=SPARSE_MAGICNUMBER,
            version=version,
            flags=SPARSEFLAG_VALID_NEWLINE_DETECTOR | flags,
            capacity=self.capacity,
            grainSize=self.grain,
            descriptorOffset=DESCRIPTOR_OFFSET,
            descriptorSize=DESCRIPTOR_SIZE,
            numGTEsPerGT=NUM_GTES_PER_GT,
            rgdOffset=rgd_sector,
            gdOffset=gd_sector,
            overHead=first_grain,
            uncleanShutdown=0,
            singleEndLineChar=SPARSE_SINGLE_END_LINE_CHAR,
            nonEndLineChar=SPARSE_NON_END_LINE_CHAR,
            doubleEndLineChar1=SPARSE_DOUBLE_END_LINE_CHAR1,
            doubleEndLineChar2=SPARSE_DOUBLE_END_LINE_CHAR2,
            compressAlgorithm=compression,
        )


def front(header: SparseExtentHeader, descriptor: bytes) -> bytes:
    """Return the first sectors of a link: header, descriptor text, zeros to the end of its room.

    Raises ValueError when the text is too long for its room.
    """
    room = DESCRIPTOR_SIZE * SECTOR
    if len(descriptor) >= room:  # one zero byte must end the text
        raise ValueError(f"descriptor of {len(descriptor)} bytes in a room of {room}")
    return SPARSE_EXTENT_HEADER.pack(*header) + descriptor.ljust(room, b"\0")
