"""The hosted sparse header as read from a file. Owns which headers are taken; does no I/O."""

from __future__ import annotations

from converter.vmdk.c_vmdk import (
    CAPACITY_MAX,
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SIZE_MAX,
    DIRECTORY_ENTRIES_MAX,
    GRAIN_SIZE_READ_MAX,
    MARKER_EOS,
    MARKER_FOOTER,
    METADATA_MARKER,
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
    SPARSE_VERSION_TRACKED,
    SPARSEFLAG_COMPRESSED,
    SPARSEFLAG_EMBEDDED_LBA,
    SPARSEFLAG_INCOMPAT_FLAGS,
    SPARSEFLAG_MAGIC_GTE,
    SPARSEFLAG_USE_REDUNDANT,
    SPARSEFLAG_VALID_NEWLINE_DETECTOR,
    MetadataMarker,
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


def parse_header(sector: bytes, *, embeds_descriptor: bool) -> SparseExtentHeader:
    """Parse the first sector of a file. Raises HeaderError for what we refuse.

    `sector` is a whole one: a file without is refused before. Where things stand is checked by
    `check_places`, when it is known: the header of a stream leaves that to its footer.
    """
    if not sector.startswith(SPARSE_MAGICNUMBER):
        raise HeaderError("it does not begin with a sparse extent header")
    header = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack(sector))
    _check_format(header)
    _check_counts(header)
    _check_descriptor_place(header, embeds_descriptor=embeds_descriptor)
    return header


def is_compressed(header: SparseExtentHeader) -> bool:
    """Say whether the grains of the extent are deflated."""
    return bool(header.flags & SPARSEFLAG_COMPRESSED)


def parse_footer(tail: bytes, header: SparseExtentHeader) -> SparseExtentHeader:
    """Parse the last three sectors of a stream: marker, footer, end. Raises HeaderError.

    The footer may differ from the header in where its tables are, and in nothing that matters.
    """
    marks = [
        MetadataMarker._make(METADATA_MARKER.unpack_from(tail, offset))
        for offset in (0, 2 * SECTOR)
    ]
    if marks != [MetadataMarker(1, 0, MARKER_FOOTER), MetadataMarker(0, 0, MARKER_EOS)]:
        raise HeaderError("its directory is behind a footer, and it does not end with one")
    if not tail.startswith(SPARSE_MAGICNUMBER, SECTOR):
        raise HeaderError("its footer does not begin as a sparse extent header")
    footer = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack_from(tail, SECTOR))
    alike = footer._replace(
        rgdOffset=header.rgdOffset,
        gdOffset=header.gdOffset,
        overHead=header.overHead,
        uncleanShutdown=header.uncleanShutdown,
    )
    if alike != header:
        raise HeaderError("its footer is not a copy of its header")
    return header._replace(gdOffset=footer.gdOffset, rgdOffset=footer.rgdOffset)


def check_places(header: SparseExtentHeader, file_sectors: int) -> None:
    """Check before anything is read that it can be there; overlaps are found afterwards.

    The descriptor is in the file if the first grain, which must stand behind it, is. Raises
    HeaderError.
    """
    directory_sectors = SparseLayout(header.capacity, header.grainSize).directory_sectors
    front_end = header.descriptorOffset + header.descriptorSize if header.descriptorOffset else 1
    places = [
        ("grain directory", header.gdOffset, directory_sectors),
        ("first grain", header.overHead, 0),
    ]
    if header.flags & SPARSEFLAG_USE_REDUNDANT:
        places.append(("redundant grain directory", header.rgdOffset, directory_sectors))
    for what, begin, sectors in places:
        if begin + sectors > file_sectors:
            raise HeaderError(f"its {what} at sector {begin} is beyond the end of the file")
        if begin < front_end:
            inside = "descriptor" if header.descriptorOffset else "header"
            raise HeaderError(f"its {what} at sector {begin} lies in its {inside}")


def _check_format(header: SparseExtentHeader) -> None:
    known = SPARSEFLAG_COMPRESSED | SPARSEFLAG_EMBEDDED_LBA
    if unknown := header.flags & SPARSEFLAG_INCOMPAT_FLAGS & ~known:
        raise HeaderError(f"it has the unknown incompatible flags {unknown:#x}")
    if header.flags & known not in (0, known):
        raise HeaderError("it has compressed grains without markers, or the reverse")
    compressed = is_compressed(header)
    versions = {SPARSE_VERSION_PLAIN, SPARSE_VERSION_MAGIC_GTE}
    versions.add(SPARSE_VERSION_STREAM if compressed else SPARSE_VERSION_TRACKED)
    if header.version not in versions:
        raise HeaderError(f"its version is {header.version}")
    if header.flags & SPARSEFLAG_MAGIC_GTE and header.version < SPARSE_VERSION_MAGIC_GTE:
        raise HeaderError("it has zeroed grains, which its version does not know")
    wanted = SPARSE_COMPRESSALGORITHM_DEFLATE if compressed else SPARSE_COMPRESSALGORITHM_NONE
    if header.compressAlgorithm != wanted:
        kind = "it is streamOptimized, but " if compressed else ""
        raise HeaderError(f"{kind}its compression is {header.compressAlgorithm}")
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
    if grain & (grain - 1) or not 1 <= grain <= GRAIN_SIZE_READ_MAX:
        raise HeaderError(f"its grains have {grain} sectors")
    # Not a multiple of the grain size: against the specification, but QEMU writes such links.
    if not 0 < header.capacity <= CAPACITY_MAX:
        raise HeaderError(f"its capacity is {header.capacity} sectors")
    if header.numGTEsPerGT != NUM_GTES_PER_GT:
        raise HeaderError(f"its grain tables have {header.numGTEsPerGT} entries")
    if SparseLayout(header.capacity, grain).tables > DIRECTORY_ENTRIES_MAX:
        raise HeaderError(f"its capacity of {header.capacity} sectors is too much for its grains")


def _check_descriptor_place(header: SparseExtentHeader, *, embeds_descriptor: bool) -> None:
    if not embeds_descriptor and not header.descriptorOffset:
        return
    if header.descriptorOffset != DESCRIPTOR_OFFSET:
        raise HeaderError(f"its descriptor is at sector {header.descriptorOffset}")
    if not 0 < header.descriptorSize <= DESCRIPTOR_SIZE_MAX:
        raise HeaderError(f"its descriptor has {header.descriptorSize} sectors")
