"""The sparse extent header as read from a file. Owns which headers are taken; does no I/O."""

from __future__ import annotations

from converter.vmdk.c_vmdk import (
    CAPACITY_MAX,
    COWD_MAGICNUMBER,
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SIZE_MAX,
    GRAIN_SIZE_MAX,
    GRAIN_SIZE_MIN,
    NUM_GTES_PER_GT,
    SPARSE_COMPRESSALGORITHM_NONE,
    SPARSE_DOUBLE_END_LINE_CHAR1,
    SPARSE_DOUBLE_END_LINE_CHAR2,
    SPARSE_EXTENT_HEADER,
    SPARSE_GD_AT_END,
    SPARSE_MAGICNUMBER,
    SPARSE_NON_END_LINE_CHAR,
    SPARSE_SINGLE_END_LINE_CHAR,
    SPARSE_VERSION_MAGIC_GTE,
    SPARSE_VERSION_PLAIN,
    SPARSEFLAG_COMPRESSED,
    SPARSEFLAG_EMBEDDED_LBA,
    SPARSEFLAG_INCOMPAT_FLAGS,
    SPARSEFLAG_MAGIC_GTE,
    SPARSEFLAG_USE_REDUNDANT,
    SPARSEFLAG_VALID_NEWLINE_DETECTOR,
    SparseExtentHeader,
)
from converter.vmdk.layout import SparseLayout

_NEWLINE_DETECTOR = (
    SPARSE_SINGLE_END_LINE_CHAR,
    SPARSE_NON_END_LINE_CHAR,
    SPARSE_DOUBLE_END_LINE_CHAR1,
    SPARSE_DOUBLE_END_LINE_CHAR2,
)


class HeaderError(Exception):
    """A header that is not taken. Its text is a clause about `it`, the file without a name yet."""


def parse_header(sector: bytes, file_sectors: int) -> SparseExtentHeader:
    """Parse the first sector of a file of `file_sectors`. Raises HeaderError for what we refuse.

    `sector` is a whole one: a file without is refused before.
    """
    if sector.startswith(COWD_MAGICNUMBER):
        raise HeaderError("it is an ESX redo log (COWD)")
    if not sector.startswith(SPARSE_MAGICNUMBER):
        raise HeaderError("it does not begin with a sparse extent header")
    header = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack(sector))
    _check_format(header)
    _check_counts(header)
    _check_places(header, file_sectors)
    return header


def _check_format(header: SparseExtentHeader) -> None:
    if header.flags & (SPARSEFLAG_COMPRESSED | SPARSEFLAG_EMBEDDED_LBA):
        raise HeaderError("it is streamOptimized")
    if unknown := header.flags & SPARSEFLAG_INCOMPAT_FLAGS:
        raise HeaderError(f"it has the unknown incompatible flags {unknown:#x}")
    if header.version not in (SPARSE_VERSION_PLAIN, SPARSE_VERSION_MAGIC_GTE):
        raise HeaderError(f"its version is {header.version}")
    if header.flags & SPARSEFLAG_MAGIC_GTE and header.version < SPARSE_VERSION_MAGIC_GTE:
        raise HeaderError("it has zeroed grains, which its version does not know")
    if header.compressAlgorithm != SPARSE_COMPRESSALGORITHM_NONE:
        raise HeaderError(f"its compression is {header.compressAlgorithm}")
    detector = (
        header.singleEndLineChar,
        header.nonEndLineChar,
        header.doubleEndLineChar1,
        header.doubleEndLineChar2,
    )
    if header.flags & SPARSEFLAG_VALID_NEWLINE_DETECTOR and detector != _NEWLINE_DETECTOR:
        raise HeaderError("a transfer as text has changed its line ends")


def _check_counts(header: SparseExtentHeader) -> None:
    grain = header.grainSize
    if grain & (grain - 1) or not GRAIN_SIZE_MIN <= grain <= GRAIN_SIZE_MAX:
        raise HeaderError(f"its grains have {grain} sectors")
    # Not a multiple of the grain size: against the specification, but QEMU writes such links.
    if not 0 < header.capacity <= CAPACITY_MAX:
        raise HeaderError(f"its capacity is {header.capacity} sectors")
    if header.numGTEsPerGT != NUM_GTES_PER_GT:
        raise HeaderError(f"its grain tables have {header.numGTEsPerGT} entries")
    if header.descriptorOffset != DESCRIPTOR_OFFSET:
        raise HeaderError(f"its descriptor is at sector {header.descriptorOffset}")
    if not 0 < header.descriptorSize <= DESCRIPTOR_SIZE_MAX:
        raise HeaderError(f"its descriptor has {header.descriptorSize} sectors")


def _check_places(header: SparseExtentHeader, file_sectors: int) -> None:
    """Check before anything is read that it can be there; overlaps are found afterwards.

    The descriptor is in the file if the first grain, which must stand behind it, is.
    """
    directory_sectors = SparseLayout(header.capacity, header.grainSize).directory_sectors
    if header.gdOffset == SPARSE_GD_AT_END:
        raise HeaderError("its grain directory is behind a footer")
    descriptor_end = header.descriptorOffset + header.descriptorSize
    places = [
        ("grain directory", header.gdOffset, directory_sectors),
        ("first grain", header.overHead, 0),
    ]
    if header.flags & SPARSEFLAG_USE_REDUNDANT:
        places.append(("redundant grain directory", header.rgdOffset, directory_sectors))
    for what, begin, sectors in places:
        if begin + sectors > file_sectors:
            raise HeaderError(f"its {what} at sector {begin} is beyond the end of the file")
        if begin < descriptor_end:
            raise HeaderError(f"its {what} at sector {begin} lies in its descriptor")
