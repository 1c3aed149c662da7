"""The content of gzip members. Owns RFC 1952; inflating itself is a library's.

Headers and trailers are read here rather than by the library: isal loses its way in headers that
arrive in pieces, and so both libraries see the same raw deflate data and give the same result.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from converter.errors import IntegrityError
from converter.layer import c_compression as c

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # an extra: twice as fast
    isal_zlib = None  # type: ignore[assignment]  # a module or nothing: mypy has no word for it

# Small members must not cost a copy of a large piece each.
_FIRST_PIECE_BYTES = 4 << 10
_PIECE_BYTES = 128 << 10
_MAX_HEADER_BYTES = 256 << 10  # its extra field can be 64 KiB; names have no bound of their own


class Inflater(Protocol):
    """The part of `zlib.decompressobj` that we use, which isal has as well."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def zlib_inflater() -> Inflater:
    """Return the standard library's inflater of raw deflate data."""
    return zlib.decompressobj(c.RAW_DEFLATE_WBITS)


def isal_inflater() -> Inflater:
    """Return isal's inflater of raw deflate data; only where isal is installed."""
    inflater: Inflater = isal_zlib.decompressobj(c.RAW_DEFLATE_WBITS)
    return inflater


HAVE_ISAL = isal_zlib is not None
fastest_inflater = isal_inflater if HAVE_ISAL else zlib_inflater
_crc32: Callable[[bytes, int], int] = isal_zlib.crc32 if HAVE_ISAL else zlib.crc32


class _DamagedError(ValueError):
    """What RFC 1952 does not allow."""


_FAULTS: tuple[type[Exception], ...] = (_DamagedError, zlib.error)
if HAVE_ISAL:
    _FAULTS += (igzip_lib.IsalError,)  # type: ignore[operator]  # its stub is no class


def gunzip(
    chunks: Iterable[bytes],
    what: str,
    *,
    chunk_bytes: int,
    new_inflater: Callable[[], Inflater] = fastest_inflater,
) -> Iterator[bytes]:
    """Yield the content of all members, one after the other, at most `chunk_bytes` at a time.

    Zeros may follow the last member: tape blocks leave them, and gzip(1) takes them as well. Raises
    IntegrityError, in which `what` names the data, for everything else that is not RFC 1952.
    """
    data = _Input(chunks)
    members = 0
    try:
        while not members or _another_member(data, what):
            _read_header(data)
            crc32 = size_bytes = 0
            for plain in _inflate(data, new_inflater(), chunk_bytes):
                crc32 = _crc32(plain, crc32)
                size_bytes += len(plain)
                yield plain
            trailer = c.GZIP_TRAILER.unpack(data.exactly(c.GZIP_TRAILER.size))
            if trailer != (crc32, size_bytes % 2**32):
                raise _DamagedError("content and checksum do not fit")
            members += 1
    except EOFError:
        raise IntegrityError(f"{what} is truncated.", expected="whole gzip members") from None
    except _FAULTS as error:
        place = f", after {members} whole members" if members else ""
        raise IntegrityError(f"{what} is damaged{place}: {error}.") from None


class _Input:
    """Chunks as one stream, from which pieces are taken and given back."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._position = 0

    def take(self, limit: int) -> bytes:
        """Return the next bytes, at most `limit`; none only at the end."""
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._chunk, self._position = chunk, 0
        piece = self._chunk[self._position : self._position + limit]
        self._position += len(piece)
        return piece

    def give_back(self, taken: bytes) -> None:
        """Let bytes that were taken last be the next ones again."""
        if len(taken) <= self._position:
            self._position -= len(taken)
        else:  # they began in an earlier chunk
            self._chunk, self._position = taken + self._chunk[self._position :], 0

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises EOFError."""
        found = b""
        while len(found) < size:
            piece = self.take(size - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found


def _another_member(data: _Input, what: str) -> bool:
    """Tell whether there is more than padding; what else it is shows when it is read."""
    first = data.take(1)
    if first != b"\0":
        data.give_back(first)
        return bool(first)
    while piece := data.take(_PIECE_BYTES):
        if piece.count(0) != len(piece):
            raise IntegrityError(
                f"{what} has garbage after its end.",
                expected="nothing, zeros, or another gzip member",
            )
    return False


def _read_header(data: _Input) -> None:
    header = data.exactly(c.GZIP_HEADER.size)
    magic, method, flags, *_ = c.GZIP_HEADER.unpack(header)
    if magic != c.GZIP_MAGIC:
        raise _DamagedError(f"a member begins with {magic.hex(' ')}")
    if method != c.CM_DEFLATE or flags & c.FLG_RESERVED:
        raise _DamagedError(f"it has compression method {method} and flags {flags:#x}")
    if flags & c.FEXTRA:
        header += (xlen := data.exactly(c.XLEN.size))
        header += data.exactly(*c.XLEN.unpack(xlen))
    for flag in (c.FNAME, c.FCOMMENT):
        if flags & flag:
            header += _text(data)
    if (
        flags & c.FHCRC
        and c.CRC16.unpack(data.exactly(c.CRC16.size))[0] != _crc32(header, 0) % 2**16
    ):
        raise _DamagedError("header and checksum do not fit")


def _text(data: _Input) -> bytes:
    text = bytearray()
    while not text.endswith(b"\0"):
        text += data.exactly(1)
        if len(text) > _MAX_HEADER_BYTES:
            raise _DamagedError(f"its header is longer than {_MAX_HEADER_BYTES} bytes")
    return bytes(text)


def _inflate(data: _Input, inflater: Inflater, chunk_bytes: int) -> Iterator[bytes]:
    limit = _FIRST_PIECE_BYTES
    while not inflater.eof:
        piece = data.take(limit)
        plain = inflater.decompress(piece, chunk_bytes)
        # isal reads ahead: at the end it may return more than the last piece.
        rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        data.give_back(rest)
        # Without input there may still be output, held back by the limit of earlier steps.
        if plain:
            yield plain
        elif not piece and not inflater.eof:
            raise EOFError
        elif rest == piece and not inflater.eof:
            raise _DamagedError("it cannot be inflated any further")
        limit = min(2 * limit, _PIECE_BYTES)
