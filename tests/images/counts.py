"""The counts image: as many of everything as ext4 or the promises of this project allow.

A file of more than 4 GiB, stored in full; a directory of 100,000 names; 65,000 names of one file;
66,000 directories in one. The layers are zstd, in many frames: zeros take no room in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.images.cache import ROOT, fingerprint
from tests.images.raw_layout import write_layout, zstd_layer
from tests.images.raw_tar import header, padded

SIZE = (4 << 30) + (9 << 20) + 5  # of the large file
TAIL = b"tail!"  # its last bytes; all others are zeros
NAMES = 100_000
LINKS = 65_000  # ext4's limit
DIRECTORIES = 66_000  # above ext4's limit of 64,999, from where on it no longer counts
DELETED = 2_000
MAX_RATIO = "40000"  # of uncompressed to compressed bytes: zstd reaches 32,768
_FRAME_BYTES = 16 << 20


def key() -> str:
    """Return the hash of everything that the image depends on."""
    names = ("counts", "raw_layout", "raw_tar")
    return fingerprint(ROOT / f"tests/images/{name}.py" for name in names)


def build(folder: Path) -> None:
    """Write the image as an OCI layout."""
    write_layout(folder, [zstd_layer(_base()), zstd_layer(_change())])


def _base() -> Iterator[bytes]:
    yield header(b"large", size=SIZE)
    whole, rest = divmod(SIZE - len(TAIL), _FRAME_BYTES)
    for _ in range(whole):
        yield bytes(_FRAME_BYTES)
    yield bytes(rest) + padded_tail()
    yield b"".join(header(b"names/%06d" % number) for number in range(NAMES))
    first = header(b"links/00000", size=1) + padded(b"1")
    yield first + b"".join(
        header(b"links/%05d" % number, b"1", linkname=b"links/00000") for number in range(1, LINKS)
    )
    yield b"".join(header(b"many/%05d/" % number, b"5") for number in range(DIRECTORIES))
    yield bytes(1024)


def padded_tail() -> bytes:
    """Return the end of the large file and what fills its last block."""
    return TAIL + bytes(-SIZE % 512)


def _change() -> Iterator[bytes]:
    yield header(b"names/new", size=3) + padded(b"new")
    for folder in (b"names/.wh.%06d", b"links/.wh.%05d", b"many/.wh.%05d"):
        yield b"".join(header(folder % number) for number in range(DELETED))
    yield bytes(1024)
