"""Read an initramfs as the kernel does: archives in a row, each compressed in its own way or not.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux. An initramfs may come
from anywhere, so it is hostile until read: what it unpacks to is bounded.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.block
import zstandard

from converter.errors import IntegrityError
from tinykernel import c_lz4, c_newc
from tinykernel.cpio import ArchiveEntry, read_newc_at

UNPACKED_LIMIT_BYTES = 256 << 20

# What is fed to a decompressor at once. At their best a few bytes become 128 KiB, so the limit
# holds to some megabytes.
_PIECE_BYTES = 256
_GZIP_WINDOW_BITS = 31
_WINDOW_LIMIT_BYTES = 128 << 20  # what the kernel unpacks at most, too


class _Decompressor(Protocol):
    """What the decompressors of the standard library and of zstandard have in common."""

    @property
    def eof(self) -> bool:
        """Whether the compressed data has ended."""

    @property
    def unused_data(self) -> bytes:
        """What was fed of what follows it."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` adds."""


class _Lz4:
    """Unpacks lz4's legacy format, which ends with a size of 0 or with the file."""

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = b""
        self._waiting = bytearray()  # less than a block
        self._is_begun = False

    @property
    def may_end(self) -> bool:
        """Whether the file may end here."""
        return self._is_begun and not self._waiting

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` adds: nothing until a block is whole."""
        self._waiting += data
        if not self._is_begun and len(self._waiting) >= len(c_lz4.MAGIC):
            del self._waiting[: len(c_lz4.MAGIC)]
            self._is_begun = True
        unpacked = []
        while self._is_begun and not self.eof and len(self._waiting) >= c_lz4.SIZE.size:
            if self._waiting.startswith(c_lz4.MAGIC):  # of another one: the kernel goes on
                del self._waiting[: len(c_lz4.MAGIC)]
                continue
            (size,) = c_lz4.SIZE.unpack_from(self._waiting)
            end = c_lz4.SIZE.size + size
            if size > c_lz4.PACKED_BYTES_MAX:
                raise lz4.block.LZ4BlockError(f"a block of {size} bytes")
            if len(self._waiting) < end:
                break
            if size == 0:
                self.eof, self.unused_data = True, bytes(self._waiting[end:])
            else:
                block = bytes(self._waiting[c_lz4.SIZE.size : end])
                unpacked.append(lz4.block.decompress(block, c_lz4.BLOCK_BYTES))
                del self._waiting[:end]
        return b"".join(unpacked)


def _zstd() -> _Decompressor:
    window = _WINDOW_LIMIT_BYTES
    return zstandard.ZstdDecompressor(max_window_size=window).decompressobj()


# By what a compressed archive begins with.
_COMPRESSIONS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(_GZIP_WINDOW_BITS),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"\x28\xb5\x2f\xfd": _zstd,
    c_lz4.MAGIC: _Lz4,
}


def read_initramfs(image: bytes) -> list[ArchiveEntry]:
    """Return what the kernel makes of the initramfs `image`, by path.

    Of several entries with one path the last one counts. Raises IntegrityError when it is damaged,
    compressed in a way that is not known here, or larger than UNPACKED_LIMIT_BYTES.
    """
    found: dict[str, ArchiveEntry] = {}
    at = unpacked_bytes = 0
    while at < len(image):
        if image[at] == 0:  # filled up
            at += 1
        elif image.startswith(c_newc.MAGIC, at):
            entries, at = read_newc_at(image, at)
            found.update((entry.path, entry) for entry in entries)
        else:
            unpacked, at = _unpacked(image, at, UNPACKED_LIMIT_BYTES - unpacked_bytes)
            unpacked_bytes += len(unpacked)
            found.update((entry.path, entry) for entry in _archives(unpacked))
    return [found[path] for path in sorted(found)]


def _archives(unpacked: bytes) -> list[ArchiveEntry]:
    """Return the entries of the archives that a compressed piece holds."""
    entries: list[ArchiveEntry] = []
    at = 0
    while at < len(unpacked):
        if unpacked[at] == 0:
            at += 1
        else:
            more, at = read_newc_at(unpacked, at)
            entries += more
    return entries


def _unpacked(image: bytes, start: int, limit_bytes: int) -> tuple[bytes, int]:
    """Return what the compressed piece at `start` holds, and where it ends."""
    known = [new for magic, new in _COMPRESSIONS.items() if image.startswith(magic, start)]
    if not known:
        raise IntegrityError(
            f"the initramfs has at byte {start} what is neither an archive nor known compression",
            expected="newc archives, plain or compressed by gzip, bzip2, xz, lz4 or zstd",
        )
    decompressor = known[0]()
    at = start
    pieces = []
    size = 0
    try:
        while not decompressor.eof:
            piece = image[at : at + _PIECE_BYTES]
            if not piece:
                if isinstance(decompressor, _Lz4) and decompressor.may_end:
                    break
                raise IntegrityError("the initramfs is cut short in a compressed piece")
            pieces.append(decompressor.decompress(piece))
            at += len(piece)
            size += len(pieces[-1])
            if size > limit_bytes:
                raise IntegrityError(
                    f"the initramfs unpacks to more than {UNPACKED_LIMIT_BYTES} bytes"
                )
    except (
        zlib.error,
        OSError,
        lzma.LZMAError,
        zstandard.ZstdError,
        lz4.block.LZ4BlockError,
    ) as error:
        raise IntegrityError(f"the initramfs is damaged after byte {start}: {error}") from error
    return b"".join(pieces), at - len(decompressor.unused_data)
