"""How an initramfs is packed: quick to unpack, or small and nearly as quick.

Owns the codecs and their settings, which docs/kernels.md measures. What is in the archive is
`initramfs`'s. The same entries and library versions give the same bytes.

    quick:  one zstd frame, its literals mostly as they are
    small:  folders, links and large files by lz4 | an end mark | the other files by zstd

The kernel unpacks archives one behind the other, each compressed in its own way
(Documentation/driver-api/early-userspace/buffer-format.rst). A byte by lz4 costs a guest a third of
one by zstd, and takes a quarter more room: so half of the bytes have the one, half the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import lz4
import lz4.block
import zstandard

from tinykernel.c_lz4 import BLOCK_BYTES, END, MAGIC, SIZE
from tinykernel.cpio import ArchiveEntry, write_newc

LARGE_BYTES = 4 << 20  # what a small initramfs has by lz4: the interpreter, half of it

# A match costs the guest the same however short it is, so there are no short ones.
_SMALL_LEVEL = 19
_SMALL_MIN_MATCH = 4
_LZ4_LEVEL = 12  # the one that looks for the best parse
# What costs it least is a literal that is not compressed, as the strategy "fast" with a target
# length leaves them.
_QUICK = {
    "strategy": zstandard.STRATEGY_FAST,
    "target_length": 1,
    "window_log": 24,
    "hash_log": 24,
    "chain_log": 20,
    "search_log": 1,
    "min_match": 7,
}
# One thread, and no checksum: the kernel looks at none.
_FIXED = {"write_checksum": False, "threads": 0}


def codecs() -> dict[str, str]:
    """Return the versions of the libraries whose bytes these are."""
    return {
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        "lz4": lz4.library_version_string(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,  # of the DHCP client
    }


def pack(entries: Iterable[ArchiveEntry], *, small: bool) -> bytes:
    """Return an initramfs of `entries`, which are in order: folders before what is in them."""
    if not small:
        archive = b"".join(write_newc(entries))
        return _zstd(archive, zstandard.ZstdCompressionParameters(**_QUICK, **_FIXED))
    first: list[ArchiveEntry] = []
    rest: list[ArchiveEntry] = []
    for entry in entries:
        is_small = entry.is_regular and len(entry.data) < LARGE_BYTES
        (rest if is_small else first).append(entry)
    large, others = (b"".join(write_newc(part)) for part in (first, rest))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _SMALL_LEVEL, source_size=len(others), min_match=_SMALL_MIN_MATCH, **_FIXED
    )
    return _lz4(large) + END + _zstd(others, parameters)


def _zstd(archive: bytes, parameters: zstandard.ZstdCompressionParameters) -> bytes:
    return zstandard.ZstdCompressor(compression_params=parameters).compress(archive)


def _lz4(archive: bytes) -> bytes:
    """Return the archive in the lz4 program's legacy format, the only one that the kernel reads."""
    parts = [MAGIC]
    for start in range(0, len(archive), BLOCK_BYTES):
        block = lz4.block.compress(
            archive[start : start + BLOCK_BYTES],
            mode="high_compression",
            compression=_LZ4_LEVEL,
            store_size=False,
        )
        parts += [SIZE.pack(len(block)), block]
    return b"".join(parts)
