"""Layers and images of any shape from a seed, for tests that want size rather than oddity."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.images.layout import LayerWriter, LayoutWriter
from tests.images.tarball import MTIME, TarBuilder, noise


@dataclass(frozen=True, slots=True)
class Shape:
    """How one layer looks: `files` files of `size_bytes` on average in `folders` folders.

    `zero_share` of the files hold only zero bytes; `deletes` names of the layer below go.
    """

    files: int
    size_bytes: int
    folders: int = 1
    zero_share: float = 0.0
    deletes: int = 0


def build(folder: Path, shapes: Sequence[Shape], *, seed: int) -> str:
    """Write an image with one layer for each shape; return its manifest digest."""
    layout = LayoutWriter(folder)
    below = 0
    for index, shape in enumerate(shapes):
        layout.layer(layer(shape, index=index, files_below=below, seed=seed), comment=repr(shape))
        below = shape.files
    return layout.finish(config={"Cmd": ["/bin/true"]})


def layer(shape: Shape, *, index: int, files_below: int = 0, seed: int) -> LayerWriter:
    """Return the writer of layer `index`; `files_below` is how many files layer `index - 1` has."""

    def write(tar: TarBuilder) -> None:
        choose = random.Random(f"{seed}/{index}")
        for name in choose.sample(range(files_below), min(shape.deletes, files_below)):
            tar.whiteout(f"layer-{index - 1}/{name}")
        tar.directory(f"layer-{index}")
        for number in range(shape.folders):
            tar.directory(f"layer-{index}/folder-{number}")
        for number in range(shape.files):
            # Plain numbers lie in the layer's own folder so that the layer above can name them.
            path = f"layer-{index}/{number}"
            if number % 2 and shape.folders:
                path = f"layer-{index}/folder-{number % shape.folders}/{number}"
            size_bytes = choose.randrange(2 * shape.size_bytes + 1)
            mtime = MTIME + choose.randrange(100_000)
            if choose.random() < shape.zero_share:
                tar.zeros(path, size_bytes, mtime=mtime)
            else:
                tar.file(path, noise(f"{seed}/{path}", size_bytes), mtime=mtime)

    return write
