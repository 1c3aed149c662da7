"""Transport forms: how a link's bytes travel. Owns the codecs; pure, bytes in and bytes out.

A link's identity is its uncompressed form. What it travels as is the sender's choice, so a receiver
takes any codec of this table, and never more bytes than it was told to expect.
"""

from __future__ import annotations

import enum
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import zstandard

from converter.artifact import c_artifact as c
from converter.errors import IntegrityError, SaltflatError
from converter.layer.compression import MAX_CHUNK_BYTES, split
from converter.layer.gzip_members import gunzip
from converter.layer.zstd_frames import unzstd

_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6
_GZIP_WBITS = 31  # zlib.h: a window of 32 KiB in a gzip member, whose time zlib leaves at 0


class _Compressor(Protocol):
    """What both libraries' compressors do."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Codec(enum.Enum):
    """A transport form, named as its annotation names it."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"

    @classmethod
    def parse(cls, name: str) -> Codec:
        """Find a codec by its name. Raises SaltflatError for one that this program lacks."""
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(codec.value for codec in cls)
            raise SaltflatError(
                f"A link is compressed by {name[:40]!a}.",
                expected=f"one of: {known}",
                hint="A newer saltflat may know it.",
            ) from None

    @property
    def disk_type(self) -> str:
        """The media type of a disk in this form."""
        return c.DISK_PREFIX if self is Codec.NONE else f"{c.DISK_PREFIX}+{self.value}"

    @property
    def suffix(self) -> str:
        """What a file in this form has behind its name."""
        return {Codec.NONE: "", Codec.GZIP: ".gz", Codec.ZSTD: ".zst"}[self]


def encode(chunks: Iterable[bytes], codec: Codec) -> Iterator[bytes]:
    """Yield `chunks` in their transport form.

    The same content in the same chunks gives the same bytes, as long as the library is the same.
    """
    if codec is Codec.NONE:
        yield from chunks
        return
    compressor: _Compressor
    if codec is Codec.GZIP:
        compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    else:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    for chunk in chunks:
        if data := compressor.compress(chunk):
            yield data
    yield compressor.flush()


def decode(
    chunks: Iterable[bytes], codec: Codec, *, size_bytes: int, sha256: str, what: str
) -> Iterator[bytes]:
    """Yield the content of a transport form: exactly `size_bytes` with that hash.

    Only when the iterator has ended without an error may anything that was yielded be trusted. It
    stops at the first chunk too many. Raises IntegrityError, in which `what` names the content.
    """
    hasher = hashlib.sha256()
    got_bytes = 0
    for chunk in _decoded(chunks, codec, what):
        got_bytes += len(chunk)
        if got_bytes > size_bytes:
            raise IntegrityError(
                f"{what} unfolds to more than its record says.", expected=f"{size_bytes} bytes"
            )
        hasher.update(chunk)
        yield chunk
    if got_bytes != size_bytes:
        raise IntegrityError(
            f"{what} unfolds to {got_bytes} bytes.", expected=f"{size_bytes} bytes"
        )
    if hasher.hexdigest() != sha256:
        raise IntegrityError(
            f"{what} has the sha256 {hasher.hexdigest()}.", expected=f"{sha256}, as in its record"
        )


def _decoded(chunks: Iterable[bytes], codec: Codec, what: str) -> Iterator[bytes]:
    if codec is Codec.GZIP:
        return gunzip(chunks, what, chunk_bytes=MAX_CHUNK_BYTES)
    if codec is Codec.ZSTD:
        return unzstd(chunks, what, chunk_bytes=MAX_CHUNK_BYTES)
    return split(chunks)
