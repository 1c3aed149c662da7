"""What a disk map shows, as values. Owns the meaning of its four kinds of content; draws nothing.

Every byte that a link holds is one of these. What a link above has in the same place is no longer
the finished disk's, and neither is what nothing leads to any more:

files       content of files and texts of symbolic links that the finished disk has from this link
structure   what makes it a file system: superblocks, bitmaps, inodes, journal, directories
replaced    in use when this link was the top one; changed or deleted by a link above
unused      not in use even then: what a grain has beside the blocks for which it was needed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from converter.diskmap.runs import Runs, joined, length


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of the image: its number (the lowest is 1), digests, what the history says made it.

    `created_by` is "" where the history says nothing.
    """

    number: int
    digest: str
    diff_id: str
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class MapFile:
    """A file and how many bytes of blocks it has in one link; `gone`: the finished disk has not."""

    path: bytes
    held_bytes: int
    gone: bool = False


@dataclass(frozen=True)
class MapLink:
    """A link: what it covers, the size of its file, and where on the disk it holds what, in bytes.

    `visible` is where the finished disk reads from this link. `heaviest` has the files that weigh
    most in it, the heaviest first.
    """

    link_id: str
    layers: tuple[MapLayer, ...]
    file_bytes: int
    files: Runs
    structure: Runs
    replaced: Runs
    unused: Runs
    visible: Runs
    heaviest: tuple[MapFile, ...] = ()

    @property
    def contents(self) -> tuple[Runs, Runs, Runs, Runs]:
        """Return files, structure, replaced and unused, in this order."""
        return self.files, self.structure, self.replaced, self.unused

    @cached_property
    def held(self) -> Runs:
        """Return all that the link holds."""
        return joined(run for runs in self.contents for run in runs)

    @cached_property
    def held_bytes(self) -> int:
        """Return how much the link holds."""
        return length(self.held)


@dataclass(frozen=True)
class DiskMap:
    """A chain, base first, and the image that it is of."""

    reference: str
    digest: str
    platform: str
    capacity_bytes: int
    layer_count: int
    links: Sequence[MapLink]

    @cached_property
    def held(self) -> Runs:
        """Return where any link holds anything."""
        return joined(run for link in self.links for run in link.held)

    @property
    def layers_without_link(self) -> int:
        """Count the layers that change nothing."""
        return self.layer_count - sum(len(link.layers) for link in self.links)
