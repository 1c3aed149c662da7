"""What a batch does, as a value: images, the blobs and links that they share, tasks. Pure.

A link's `key` is what its identity will be if no layer below it turns out to change nothing; such
layers make no link, which only converting them tells. So keys name links in a plan and nowhere
else: what is in a store has the identity that `converter.store.links.link_id` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from converter.batch.failure import Failure


class TaskKind(Enum):
    """What a task does; the values are what people and programs read."""

    FETCH = "fetch"  # one blob into the store
    CONVERT = "convert"  # a run of links, each on the one before it
    RECORD = "record"  # an image, whose links are all there
    BUNDLE = "bundle"
    EXPORT = "export"
    PUSH = "push"
    IMPORT = "import"


class Whereabouts(Enum):
    """Where a link is while the plan is made."""

    MISSING = "missing"  # it has to be converted
    CACHE = "cache"  # a shared cache has it: nothing has to be fetched for it
    STORE = "store"


@dataclass(frozen=True, slots=True)
class PlannedBlob:
    """A layer as it is transported: `size_bytes` compressed.

    `is_here` says that nothing is to be fetched: the store has it, or it lies in a folder.
    """

    digest: str
    size_bytes: int
    is_here: bool = False


@dataclass(frozen=True, slots=True)
class PlannedLink:
    """A link of one or several images: `parent` is the key below, "" at the bottom.

    `diff_ids` and `blobs` are those of the layers that it covers, base first; `depth` counts the
    links below it.
    """

    key: str
    parent: str
    diff_ids: tuple[str, ...]
    blobs: tuple[str, ...]
    where: Whereabouts
    depth: int = 0


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """What is made of an image beside its links; `place` says where, as a person wrote it."""

    kind: TaskKind
    place: str


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of the batch; `links` are the keys of its chain, base first, `line` the file's.

    One with a `failure` could not be looked up, or is refused: it has no digest, links or tasks.
    """

    reference: str
    digest: str
    platform: str
    links: tuple[str, ...]
    outputs: tuple[PlannedOutput, ...] = ()
    line: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work that is done as a whole, in one place.

    `needs` are the ids of the tasks that come before it; `images` the indexes, in the plan, of all
    images that need it. `cost_bytes` says how long it takes, in bytes of blobs converted;
    `rank_bytes` is the cost of the longest way from its beginning to an end of the plan, and what
    has the highest goes first.

    By kind: FETCH has `blob`; CONVERT has `links`, keys that stand on one another, the lowest
    first; the others are of `images[0]`, and those behind RECORD of its output number `output`.
    """

    id: str
    kind: TaskKind
    name: str
    needs: tuple[str, ...]
    images: tuple[int, ...]
    cost_bytes: int
    rank_bytes: int = 0
    blob: str = ""
    links: tuple[str, ...] = ()
    output: int = -1


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plan amounts to.

    `fetch_bytes` are of the blobs that have to be fetched. `shared_bytes` are what converting each
    image for itself into an empty store would handle in excess of each blob once. `disk_bytes` is
    an estimate of what the store grows by: blobs, and links after `UNPACKED_PER_BYTE`.
    `links` counts all links of the plan, `convert_links` those that are missing, `cached_links`
    those that a cache has; `blobs` and `fetch_blobs` likewise.
    """

    images: int
    blobs: int
    fetch_blobs: int
    fetch_bytes: int
    shared_bytes: int
    links: int
    convert_links: int
    cached_links: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All tasks, each behind those that it needs; blobs by their digests, links by their keys."""

    images: tuple[PlannedImage, ...]
    blobs: Mapping[str, PlannedBlob]
    links: Mapping[str, PlannedLink]
    tasks: tuple[Task, ...]
    figures: Figures = field(kw_only=True)
