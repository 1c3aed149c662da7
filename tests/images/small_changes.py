"""Small changes to much: the image whose links' sizes are bounded, and the measure of the bound.

A link may have 1.03 times the content that its layer brings (each file rounded up to 4 KiB),
512 KiB, 512 bytes for each member, and a grain for each grain of older metadata that it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from converter.vmdk.reader import Kind, Link, read_link
from tests.images.layout import LayerWriter, LayoutWriter
from tests.images.tarball import TarBuilder

KIB = 1 << 10
GRAIN = 64 * KIB
NAMES = 100_000
TREE = [f"tree/{number % 100}/{number}" for number in range(10_000)]
REFILLED = [f"big/refill-{number}" for number in range(500)]
DELETED = [f"big/{number:06d}" for number in range(0, NAMES, NAMES // 1000)]


class Layer(NamedTuple):
    """A layer, how many members it has, and how much content in whole blocks."""

    write: LayerWriter
    members: int
    content: int


def _base(tar: TarBuilder) -> None:
    tar.directory("big")
    for number in range(NAMES):
        tar.file(f"big/{number:06d}")
    for number in range(100):
        tar.directory(f"tree/{number}")
    for path in TREE:
        tar.file(path, b"content of " + path.encode())


def _one_file(tar: TarBuilder) -> None:
    tar.file("big/one more", b"content")


def _deletes(tar: TarBuilder) -> None:
    for path in DELETED:
        tar.whiteout(path)


def _chmod(tar: TarBuilder) -> None:
    for path in TREE:
        tar.file(path, b"content of " + path.encode(), mode=0o600)


def _refill(tar: TarBuilder) -> None:
    for path in REFILLED:
        tar.file(path)


LAYERS = {
    "base": Layer(_base, NAMES + 100 + len(TREE), 4 * KIB * len(TREE)),
    "one file into 100,000": Layer(_one_file, 1, 4 * KIB),
    "1,000 scattered deletes": Layer(_deletes, len(DELETED), 0),
    "chmod -R of 10,000 files": Layer(_chmod, len(TREE), 4 * KIB * len(TREE)),
    "500 names into the room of the deleted": Layer(_refill, 500, 0),
}


class Size(NamedTuple):
    """A link's size and its bound in bytes, and how many grains of lower links it has anew."""

    size: int
    bound: int
    older_grains: int


def build(folder: Path) -> None:
    """Write the image as an OCI layout, one layer for each of LAYERS."""
    layout = LayoutWriter(folder)
    for name, layer in LAYERS.items():
        layout.layer(layer.write, comment=name)
    layout.finish(config={})


def measure(links: Sequence[Path]) -> dict[str, Size]:
    """Hold each link, base first, to its bound."""
    below: set[int] = set()
    sizes = {}
    for (name, layer), path in zip(LAYERS.items(), links, strict=True):
        with read_link(path) as link:
            grains = set(_grains(link))
        older = len(grains & below)
        bound = 1.03 * layer.content + 512 * KIB + 512 * layer.members + GRAIN * older
        sizes[name] = Size(path.stat().st_size, int(bound), older)
        below |= grains
    return sizes


def _grains(link: Link) -> Iterator[int]:
    """Yield the offsets of the grains that the link itself has, zeros included."""
    for piece in link.pieces(0, link.capacity_bytes):
        if piece.kind is not Kind.ABSENT:
            yield from range(piece.offset, piece.offset + piece.length, GRAIN)
