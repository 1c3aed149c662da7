"""Layers that a registry need not have: those whose descriptor names addresses elsewhere.

Owns when these are asked: only for layers of the types made for that, only where the image's own
place has no such blob, and only if the user allowed it. (image-spec layer.md "Non-Distributable
Layers", descriptor.md `urls`; distribution manifest-v2-2.md)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from converter.errors import NotFoundError, SaltflatError, UnavailableError
from converter.image import c_oci as c
from converter.image.files import Content
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.sink import CheckedSink

if TYPE_CHECKING:
    from converter.image.source import Source

Receive = Callable[[str, Descriptor, CheckedSink], None]  # from a URL, as Source.receive

MAX_URLS = 8


class WithForeignLayers:
    """A source, and beside it the addresses that its descriptors name.

    `elsewhere` fetches from one of them; None forbids it.
    """

    def __init__(self, source: Source, elsewhere: Receive | None) -> None:
        self._source = source
        self._elsewhere = elsewhere

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`. Raises as the source does."""
        return self._source.resolve(platform)

    def local_blob(self, descriptor: Descriptor) -> Content | None:
        """Return the blob where it lies on this host, or None. Raises as the source does."""
        try:
            return self._source.local_blob(descriptor)
        except NotFoundError:
            if not _is_foreign(descriptor):
                raise
            return None

    def hang_up(self) -> None:
        """Let nobody wait for the source any longer. Other addresses are waited for."""
        self._source.hang_up()

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete the blob in `into` and check it.

        Raises as the source does, and what the last address led to if all of them fail.
        """
        try:
            self._source.receive(descriptor, into)
        except NotFoundError as error:
            if not _is_foreign(descriptor):
                raise
            self._ask_elsewhere(descriptor, into, error)

    def _ask_elsewhere(
        self, descriptor: Descriptor, into: CheckedSink, not_found: NotFoundError
    ) -> None:
        if self._elsewhere is None:
            raise NotFoundError(
                f"Layer {descriptor.digest} is not where the image is, "
                "for it may not be distributed.",
                expected=f"{len(descriptor.urls)} addresses elsewhere to be allowed",
                hint="Fetch such layers from where the image says with --foreign-layers.",
            ) from not_found
        failed: SaltflatError | None = None
        for url in descriptor.urls[:MAX_URLS]:
            try:
                self._elsewhere(url, descriptor, into)
            except SaltflatError as error:
                failed = error
            else:
                return
        raise failed or UnavailableError(f"No address has layer {descriptor.digest}.")


def _is_foreign(descriptor: Descriptor) -> bool:
    return descriptor.media_type in c.FOREIGN_LAYER_TYPES and bool(descriptor.urls)
