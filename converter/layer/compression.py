"""How a layer is compressed. Owns which formats are taken; what they contain is others' business.

The first bytes decide and no media type does, for registries hold layers that are not what their
media type says. Bytes go in and come out as iterators: every step yields a bounded chunk, whatever
the ratio, so that a bomb costs time but no memory.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator

from converter.errors import IntegrityError
from converter.layer import c_compression as c
from converter.layer import c_tar
from converter.layer.gzip_members import gunzip
from converter.layer.zstd_frames import unzstd

HEAD_BYTES = c_tar.BLOCK_SIZE  # of a blob tell what it is
MAX_CHUNK_BYTES = 256 << 10  # larger ones fall out of the processor's cache between threads


class Compression(enum.Enum):
    """The forms in which a tar archive is taken."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def recognise(head: bytes, what: str) -> Compression:
    """Tell the form of what begins with `head`: its first 512 bytes, or all if it has fewer.

    Raises IntegrityError, in which `what` names the data ("Layer sha256:..."), for other formats.
    """
    if head.startswith(c.GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(c.ZSTD_MAGIC) or _is_skippable_frame(head):
        return Compression.ZSTD
    if _is_tar(head):
        return Compression.NONE
    known = {c.BZIP2_MAGIC: "bzip2", c.XZ_MAGIC: "xz"}
    found = next((name for magic, name in known.items() if head.startswith(magic)), None)
    raise IntegrityError(
        f"{what} is compressed by {found}."
        if found
        else f"{what} is of an unknown format: it begins with {head[:8].hex(' ')}.",
        expected="a tar archive, plain or compressed by gzip or zstd",
    )


def decompress(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """Recognise a tar stream, plain or compressed by gzip or zstd, and yield it uncompressed.

    Raises IntegrityError, in which `what` names the data ("Layer sha256:..."), for other formats
    and for data that is damaged, truncated, or followed by garbage.
    """
    chunks = iter(chunks)
    head = b""
    while len(head) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
        head += chunk
    whole = itertools.chain([head], chunks)
    match recognise(head[:HEAD_BYTES], what):
        case Compression.GZIP:
            return gunzip(whole, what, chunk_bytes=MAX_CHUNK_BYTES)
        case Compression.ZSTD:
            return unzstd(whole, what, chunk_bytes=MAX_CHUNK_BYTES)
        case Compression.NONE:
            return split(whole)


def split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in chunks of at most `MAX_CHUNK_BYTES`."""
    for chunk in chunks:
        for start in range(0, len(chunk), MAX_CHUNK_BYTES):
            yield chunk[start : start + MAX_CHUNK_BYTES]


def _is_skippable_frame(head: bytes) -> bool:
    if len(head) < c.MAGIC_NUMBER.size:
        return False
    (magic,) = c.MAGIC_NUMBER.unpack_from(head)
    return bool(magic & c.SKIPPABLE_MAGIC_MASK == c.SKIPPABLE_MAGIC_NUMBER)


def _is_tar(head: bytes) -> bool:
    """Tell whether a tar header could begin so; whether it is sound is the tar reader's to say.

    `head` is the first block alone, so that the answer does not depend on how the data arrives.
    """
    if head.count(0) == len(head):
        return True  # an archive without members, or nothing at all: an empty layer
    if len(head) < c_tar.BLOCK_SIZE:
        return False
    if head.startswith(c.TAR_MAGIC, c.TAR_MAGIC_OFFSET):
        return True
    start, end = c_tar.CHKSUM_OFFSET, c_tar.CHKSUM_OFFSET + c_tar.CHKSUM_SIZE
    # Archives from before POSIX have no magic, but a checksum over blanks in its own place.
    block = head[:start] + b" " * c_tar.CHKSUM_SIZE + head[end : c_tar.BLOCK_SIZE]
    stated = head[start:end].strip(b" \0")
    return stated.isdigit() and stated == f"{sum(block):o}".encode().zfill(len(stated))
