"""A made-up registry: images that share layers, from a seed. Owns the distribution, no costs.

Images are versions of repositories, these stand on stacks (a language, a server), those on bases (a
distribution). docs/simulation.md has the distribution in words and its reasons.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import NormalDist

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Shape:
    """What a population is drawn from. Sizes are of compressed layers, in bytes.

    `median_bytes` and `high_bytes` are what half and nine of ten layers stay below; likewise
    `median_files` and `high_files`. `alike` is how much the two go together, 0 to 1.
    """

    images: int = 100_000
    layers: int = 400_000
    images_per_base: int = 500
    images_per_stack: int = 25
    images_per_repository: int = 5
    rebased: float = 0.05  # share of versions that are an older one's layers on another stack
    on_bases: float = 0.2  # share of repositories without a stack
    skew: float = 1.0  # Zipf's exponent: how much more popular the first is than the second
    median_bytes: int = 4_000_000
    high_bytes: int = 63_000_000
    most_bytes: int = 4_000_000_000
    base_bytes: int = 30_000_000  # the median of layers of bases
    median_files: int = 30
    high_files: int = 7_500
    most_files: int = 200_000
    alike: float = 0.7
    most_links: int = 24  # of a chain
    inflation: float = 2.6  # bytes of content for each compressed one


@dataclass(slots=True)
class Forest:
    """Links and what they are made of, in columns: link and blob numbers are places in these.

    A link comes after its parent. `tops` has the uppermost link of each image.
    """

    parents: array[int] = field(default_factory=lambda: array("q"))
    blobs: array[int] = field(default_factory=lambda: array("q"))  # of each link
    depths: array[int] = field(default_factory=lambda: array("q"))
    files_below: array[int] = field(default_factory=lambda: array("q"))  # of all lower links
    blob_bytes: array[int] = field(default_factory=lambda: array("q"))
    raw_bytes: array[int] = field(default_factory=lambda: array("q"))
    files: array[int] = field(default_factory=lambda: array("q"))
    tops: array[int] = field(default_factory=lambda: array("q"))
    _found: dict[tuple[int, int], int] = field(default_factory=dict)

    def add_blob(self, size_bytes: int, raw_bytes: int, files: int) -> int:
        """Add a layer as it is stored, and return its number."""
        self.blob_bytes.append(size_bytes)
        self.raw_bytes.append(raw_bytes)
        self.files.append(files)
        return len(self.blob_bytes) - 1

    def add_link(self, parent: int, blob: int) -> int:
        """Return the link of `blob` on `parent`, a new one unless there is one."""
        known = self._found.get((parent, blob))
        if known is not None:
            return known
        self.parents.append(parent)
        self.blobs.append(blob)
        below = parent != NO_PARENT
        self.depths.append(self.depths[parent] + 1 if below else 1)
        own = self.files[self.blobs[parent]] if below else 0
        self.files_below.append(self.files_below[parent] + own if below else 0)
        self._found[parent, blob] = len(self.parents) - 1
        return len(self.parents) - 1

    def chain(self, link: int) -> list[int]:
        """Return the links of an image from the base up to `link`."""
        found = []
        while link != NO_PARENT:
            found.append(link)
            link = self.parents[link]
        return found[::-1]


def populate(shape: Shape, seed: int) -> Forest:
    """Draw a population: the same one for the same shape and seed.

    It has `shape.layers` different blobs exactly, and a few links more where a blob stands on
    several others.
    """
    return _Drawing(shape, seed).forest()


class _Drawing:
    """One population while it is drawn. All that is random comes from `random()`, which is the same
    in all versions of Python.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._random = random.Random(seed).random
        self._forest = Forest()
        self._normal = NormalDist()

    def forest(self) -> Forest:
        shape, forest = self._shape, self._forest
        bases = [
            forest.add_link(NO_PARENT, self._blob(shape.base_bytes))
            for _ in range(max(shape.images // shape.images_per_base, 1))
        ]
        popular_bases = _Zipf(len(bases), shape.skew)
        stacks = []
        for _ in range(max(shape.images // shape.images_per_stack, 1)):
            link = bases[popular_bases.draw(self._random())]
            for _ in range(1 + int(self._random() * 3)):
                link = forest.add_link(link, self._blob(shape.median_bytes))
            stacks.append(link)
        popular_stacks = _Zipf(len(stacks), shape.skew)
        repositories = max(shape.images // shape.images_per_repository, 1)
        popular_repositories = _Zipf(repositories, shape.skew / 2)
        ground = [
            bases[popular_bases.draw(self._random())]
            if self._random() < shape.on_bases
            else stacks[popular_stacks.draw(self._random())]
            for _ in range(repositories)
        ]
        newest: list[list[int]] = [[] for _ in range(repositories)]  # own blobs, base first
        counts = self._own_layers(shape.layers - len(forest.blob_bytes))
        for count in counts:
            # The first images give each repository its first version.
            image = len(forest.tops)
            at = image if image < repositories else popular_repositories.draw(self._random())
            if newest[at] and self._random() < shape.rebased:
                ground[at] = stacks[popular_stacks.draw(self._random())]
                kept = newest[at]
            else:
                kept = newest[at][: int(self._random() * len(newest[at]))]
            link = ground[at]
            # Where a chain would grow too long, it is the new layers that count.
            kept = kept[: max(shape.most_links - forest.depths[link] - count, 0)]
            newest[at] = [*kept, *(self._blob(shape.median_bytes) for _ in range(count))]
            for blob in newest[at]:
                link = forest.add_link(link, blob)
            forest.tops.append(link)
        return forest

    def _own_layers(self, layers: int) -> list[int]:
        """Divide `layers` among the images, one for each at least."""
        images = self._shape.images
        if layers < images:
            raise ValueError(f"{layers} layers are too few for {images} images of their own")
        counts = [1] * images
        for _ in range(layers - images):
            counts[int(self._random() * images)] += 1
        return counts

    def _blob(self, median_bytes: int) -> int:
        """Add a layer; sizes and counts of files are log-normal, with a bound."""
        shape = self._shape
        one, other = self._deviate(), self._deviate()
        other = shape.alike * one + math.sqrt(1 - shape.alike**2) * other
        tenth = self._normal.inv_cdf(0.9)
        spread = math.log(shape.high_bytes / shape.median_bytes) / tenth
        size = min(int(median_bytes * math.exp(spread * one)) + 200, shape.most_bytes)
        spread = math.log(shape.high_files / shape.median_files) / tenth
        files = min(int(shape.median_files * math.exp(spread * other)) + 1, shape.most_files)
        raw = int(size * shape.inflation)
        return self._forest.add_blob(size, raw, min(files, raw // 64))

    def _deviate(self) -> float:
        # Of what random() gives, 0 alone has no place on the normal distribution.
        return self._normal.inv_cdf(self._random() or 0.5)


class _Zipf:
    """Numbers from 0 on, of which the lower ones are drawn more often."""

    def __init__(self, count: int, skew: float) -> None:
        self._sums: Sequence[float] = list(accumulate(n**-skew for n in range(1, count + 1)))

    def draw(self, chance: float) -> int:
        return bisect(self._sums, chance * self._sums[-1])
