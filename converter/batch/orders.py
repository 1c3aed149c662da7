"""What a worker is told of a task: plain values that go to another process or host.

Owns the orders' types; carrying them out is `converter.batch.work`. An order stands for itself:
whoever has it, the store (or a store of its own and the cache) and the registries needs nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.batch.wishes import OutputWish
from converter.convert_options import ConvertOptions
from converter.image.model import Descriptor, Image
from converter.image.source import Origin


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """A shared cache of links: `repository` is HOST/NAME, `mode` a value of CacheMode."""

    repository: str
    mode: str
    verify: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """Bring one blob of the image `source` into the store.

    `others` are images in other registries that have it, too, to be asked if that fails.
    """

    store: Path
    source: str
    origin: Origin
    blob: Descriptor
    others: tuple[tuple[str, Origin], ...] = ()


@dataclass(frozen=True, slots=True)
class ConvertOrder:
    """Bring the links of the lowest `layers` of `image` into the store.

    Those of the lowest `skip` layers are not this order's: they are there already, or come from the
    cache. Blobs that are in the store are used, others fetched.
    """

    store: Path
    source: str
    origin: Origin
    image: Image
    layers: int
    skip: int
    options: ConvertOptions
    cache: CacheOrder | None = None


@dataclass(frozen=True, slots=True)
class RecordOrder:
    """Let the store know that `image`, whose links it has, is converted.

    A link that it lacks after all is made, as for ConvertOrder.
    """

    store: Path
    source: str
    origin: Origin
    image: Image
    options: ConvertOptions
    cache: CacheOrder | None = None


@dataclass(frozen=True, slots=True)
class OutputOrder:
    """Make `output` of `image`, whose place is filled in; its chain as for RecordOrder."""

    store: Path
    source: str
    origin: Origin
    image: Image
    options: ConvertOptions
    output: OutputWish
    cache: CacheOrder | None = None


Order = FetchOrder | ConvertOrder | RecordOrder | OutputOrder
