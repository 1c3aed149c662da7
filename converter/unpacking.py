"""The layers of one link as they are read: blobs that are fetched meanwhile, opened in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import BinaryIO

from converter.image.files import Content
from converter.image.model import Layer
from converter.layer.changeset import read_changes
from converter.layer.decompress import open_layer
from converter.layer.entry import Entry
from converter.layer.limits import Limits
from converter.layer.tar import read_entries
from converter.waiting import result_of


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer's bytes: `verified` when they were checked before they got a name in our store."""

    content: Content
    verified: bool


class Unpacking:
    """Opens the layers of one link one after another, and knows how far it is."""

    def __init__(self, blobs: Mapping[Layer, Future[Blob]], limits: Limits) -> None:
        self.layer: Layer | None = None
        self._limits = limits
        self._blobs = blobs
        self._file: BinaryIO | None = None
        self._done_bytes = 0

    def position(self) -> int:
        """Return how many compressed bytes of all layers have been read."""
        return self._done_bytes + (self._file.tell() if self._file else 0)

    def wait(self, layers: tuple[Layer, ...]) -> None:
        """Return when the first layer's blob is here. Raises what its fetch raised."""
        if layers:
            self.layer = layers[0]
            result_of(self._blobs[self.layer])

    def entries(self, layers: tuple[Layer, ...]) -> Generator[Iterator[Entry], None, None]:
        """Yield each layer's entries; after the last one of a layer its diffID is checked."""
        for layer in layers:
            self.layer = layer
            blob = result_of(self._blobs[layer])
            with (
                blob.content.open() as self._file,
                open_layer(
                    self._file,
                    layer.descriptor,
                    verify_blob=not blob.verified,
                    algorithm=layer.diff_id.algorithm,
                    limits=self._limits,
                ) as tar,
            ):
                yield read_changes(read_entries(tar, self._limits))
                tar.drain()
                tar.check(layer.diff_id)
            self._file = None
            self._done_bytes += layer.descriptor.size_bytes
