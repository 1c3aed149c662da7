"""Images that tell costs apart: few large files, many small ones, little on much. Owns the layers.

Each is made of bytes that follow from its name, so that what is measured is the same everywhere;
but one is of Debian packages, for how well content compresses only real content can tell.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from converter.ext4.c_ext4 import BLOCK_SIZE
from scripts.simulations.local import Content
from tests.images.raw_layout import GZIP, RawLayer, digest_of
from tests.images.tarball import TarBuilder, noise
from tests.images.workload import WorkImage, work_layers

REAL = "debian"  # the name of that one
FIRST = "first"  # of the one with next to nothing
APART = "apart"  # of one whose layers are alike, to be fetched at once
_PACKAGES = ("common", "runtime-perl", "runtime-django", "distribution-usual")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """An image by its name, with its layers base first."""

    name: str
    layers: tuple[RawLayer, ...]


def calibrations(scale: int = 1) -> tuple[Calibration, ...]:
    """Return the images; with a larger `scale` they take longer and are measured better."""
    many = _layer("many", files=3_000 * scale, size_bytes=2_000)
    noisy = _layer("noisy", files=4, size_bytes=4 * _MIB * scale)
    apart = tuple(
        _layer(f"apart {number}", files=1, size_bytes=8 * _MIB * scale) for number in range(4)
    )
    small = [_layer(f"small {number}", files=3, size_bytes=200) for number in range(6)]
    return (
        Calibration(FIRST, (small[0],)),
        Calibration("many", (many, small[1], small[2])),
        Calibration("noisy", (noisy, small[3])),
        Calibration("below", (noisy, many)),
        Calibration(REAL, _debian(scale)),
        Calibration(APART, apart),
        Calibration("small", tuple(small)),
    )


def _debian(scale: int) -> tuple[RawLayer, ...]:
    image = WorkImage(REAL, "1", _PACKAGES[:scale])
    layers = work_layers([image])
    return tuple(layers[name] for name in image.layers)


def content_of(blob: bytes) -> Content:
    """Return what a layer has in it. Raises tarfile.TarError."""
    size, files, blocks = 0, 0, 0
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:*") as archive:
        for member in archive:
            size += member.size if member.isreg() else 0
            files += 1
            if member.isreg():
                blocks += -(-member.size // BLOCK_SIZE)
            elif member.isdir():
                blocks += 1  # of its entries, unless they are many
    return Content(size, files, blocks * BLOCK_SIZE)


def contents_of(layers: Sequence[RawLayer]) -> dict[str, Content]:
    """Return the contents of layers by the digests of their blobs."""
    return {digest_of(layer.blob): content_of(layer.blob) for layer in layers}


def _layer(name: str, *, files: int, size_bytes: int) -> RawLayer:
    stream = io.BytesIO()
    tar = TarBuilder(stream)
    folder = f"srv/{name.replace(' ', '-')}"
    tar.directory("srv")
    tar.directory(folder)
    for number in range(files):
        tar.file(f"{folder}/{number}", noise(f"{name}/{number}", size_bytes))
    tar.close()
    archive = stream.getvalue()
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    return RawLayer(gzip.compress(archive, 6, mtime=0), diff_id, GZIP)
