"""Read an x86 kernel file: its version, and the kernel that is compressed in it. Runs nothing."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib

import zstandard

from converter.errors import IntegrityError
from tinykernel.kernel import c_bzimage

_KERNEL_LIMIT_BYTES = 256 << 20
_VERSION_LIMIT_BYTES = 256
_GZIP_WINDOW_BITS = 31


def kernel_version(image: bytes, name: str) -> str:
    """Return what `uname -r` will say. Raises IntegrityError when this is no x86 kernel."""
    _check(image, name)
    (at,) = struct.unpack_from("<H", image, c_bzimage.KERNEL_VERSION)
    start = at + c_bzimage.KERNEL_VERSION_BASE
    text = image[start : start + _VERSION_LIMIT_BYTES].partition(b"\0")[0] if at else b""
    words = text.decode("ascii", "replace").split()
    if not words or not words[0].isprintable():
        raise IntegrityError(f"the kernel {name} does not tell its version")
    return words[0]


def unpacked_kernel(image: bytes, name: str) -> bytes | None:
    """Return the kernel inside, an ELF file; None when its compression is not one that we know.

    Raises IntegrityError when this is no x86 kernel, or a damaged one.
    """
    _check(image, name)
    (protocol,) = struct.unpack_from("<H", image, c_bzimage.PROTOCOL_VERSION)
    if protocol < c_bzimage.PAYLOAD_SINCE:
        return None
    offset, length = struct.unpack_from("<II", image, c_bzimage.PAYLOAD_OFFSET)
    sectors = image[c_bzimage.SETUP_SECTS] or c_bzimage.DEFAULT_SETUP_SECTS
    start = (sectors + 1) * c_bzimage.SECTOR_BYTES + offset
    payload = image[start : start + length]
    try:
        return _unpacked(payload)
    except (zlib.error, lzma.LZMAError, OSError, zstandard.ZstdError) as error:
        raise IntegrityError(f"the kernel {name} is damaged: {error}") from error


def _unpacked(payload: bytes) -> bytes | None:
    """Unpack as far as the kernel goes: four bytes with its size follow."""
    if payload.startswith(c_bzimage.MAGIC_ELF):
        return payload
    if payload.startswith(c_bzimage.MAGIC_GZIP):
        return zlib.decompressobj(_GZIP_WINDOW_BITS).decompress(payload, _KERNEL_LIMIT_BYTES)
    if payload.startswith(c_bzimage.MAGIC_ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(payload).read(_KERNEL_LIMIT_BYTES)
    if payload.startswith((c_bzimage.MAGIC_XZ, c_bzimage.MAGIC_LZMA)):
        return lzma.LZMADecompressor().decompress(payload, _KERNEL_LIMIT_BYTES)
    if payload.startswith(c_bzimage.MAGIC_BZIP2):
        return bz2.BZ2Decompressor().decompress(payload, _KERNEL_LIMIT_BYTES)
    return None


def _check(image: bytes, name: str) -> None:
    magic = image[c_bzimage.HEADER_MAGIC :][: len(c_bzimage.HEADER_MAGIC_VALUE)]
    if len(image) < c_bzimage.HEADER_END or magic != c_bzimage.HEADER_MAGIC_VALUE:
        raise IntegrityError(
            f"{name} is no kernel for x86",
            expected="a bzImage, such as /boot/vmlinuz-VERSION",
        )
