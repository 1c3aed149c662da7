"""Layers compressed in every way that gzip (RFC 1952) and Zstandard (RFC 8878) have, and wrongly.

Owns the framing alone: optional fields, several members, checksums that are wrong, what follows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

import zstandard

from converter.layer import c_compression as z


def frame_gzip(plain: bytes, choose: Random) -> bytes:
    """Return `plain` as gzip members with any optional fields that RFC 1952 has."""
    cut = choose.randint(0, len(plain)) if choose.randrange(3) == 0 else len(plain)
    parts = [plain[:cut], plain[cut:]] if cut < len(plain) else [plain]
    framed = b"".join(_gzip_member(part, choose) for part in parts)
    tail = (b"", b"", b"", bytes(1), bytes(600), b"\0garbage", b"garbage", b"\x1f\x8b")
    return framed + choose.choice(tail)


def _gzip_member(plain: bytes, choose: Random) -> bytes:
    flags = choose.choice((0, 0, z.FEXTRA, z.FNAME, z.FCOMMENT, z.FHCRC, 0x1F, 0x20))
    head = z.GZIP_HEADER.pack(z.GZIP_MAGIC, choose.choice((8, 8, 8, 8, 8, 7)), flags, 0, 0, 255)
    if flags & z.FEXTRA:
        extra = b"e" * choose.choice((0, 1, 300))
        head += z.XLEN.pack(len(extra)) + extra
    if flags & z.FNAME:
        head += b"name\0"
    if flags & z.FCOMMENT:
        head += b"comment\0"
    if flags & z.FHCRC:
        head += z.CRC16.pack((zlib.crc32(head) + (choose.randrange(8) == 0)) % 65536)
    deflater = zlib.compressobj(choose.choice((0, 1, 9)), zlib.DEFLATED, -15)
    body = deflater.compress(plain) + deflater.flush()
    trailer = z.GZIP_TRAILER.pack(zlib.crc32(plain), len(plain) + (choose.randrange(12) == 0))
    return head + body + trailer


def frame_zstd(plain: bytes, choose: Random) -> bytes:
    """Return `plain` as Zstandard frames of any kind, among skippable ones, whole or not."""
    cut = choose.randint(0, len(plain)) if choose.randrange(3) == 0 else len(plain)
    parts = [plain[:cut], plain[cut:]] if cut < len(plain) else [plain]
    framed = b"".join(_zstd_frame(part, choose) for part in parts)
    skippable = struct.pack("<II", 0x184D2A50 + choose.randrange(16), 5) + b"skip!"
    shapes: tuple[Callable[[], bytes], ...] = (
        lambda: framed,
        lambda: framed,
        lambda: skippable + framed,
        lambda: framed + skippable,
        lambda: framed + b"garbage",
        lambda: framed[:-1],
        lambda: framed + skippable[:-2],
    )
    return choose.choice(shapes)()


def _zstd_frame(plain: bytes, choose: Random) -> bytes:
    kind = choose.randrange(4)
    if kind:
        return zstandard.ZstdCompressor(
            level=choose.choice((1, 3)),
            write_content_size=choose.randrange(2) == 0,
            write_checksum=choose.randrange(2) == 0,
        ).compress(plain)
    # By hand: a window of 1 MiB, raw blocks, then a run of zeros.
    blocks = [plain[at : at + 60000] for at in range(0, len(plain), 60000)]
    parts = [struct.pack("<IBB", z.ZSTD_MAGIC_NUMBER, 0, 0x50)]
    parts += [(len(block) << 3).to_bytes(3, "little") + block for block in blocks]
    run = choose.choice((0, 512, 1024, 1 << 17))
    parts.append((run << 3 | z.RLE_BLOCK << 1 | z.LAST_BLOCK).to_bytes(3, "little") + b"\0")
    return b"".join(parts)
