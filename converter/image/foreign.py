"""Layers that a registry need not have: those whose descriptor names addresses elsewhere.

Owns when these are asked: only for layers of the types made for that, only where the image's own
place has no such blob, and only if the user allowed it. (image-spec layer.md "Non-Distributable
Layers", descriptor.md `urls`; distribution manifest-v2-2.md)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from converter.errors import NotFoundError, SaltflatError, UnavailableError
from converter.image import c_oci as c
from converter.image.files import Content
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform

if TYPE_CHECKING:
    from converter.image.registry_source import CheckedSink

Get = Callable[[str, str], AbstractContextManager[Iterator[bytes]]]  # (url, what it is)

MAX_URLS = 8


class _Source(Protocol):
    """What `converter.image.source.Source` is, of which this is a user and a kind."""

    def resolve(self, platform: Platform) -> Image: ...
    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]: ...
    def local_blob(self, descriptor: Descriptor) -> Content | None: ...


class _ResumingSource(_Source, Protocol):
    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None: ...


class WithForeignLayers:
    """A source, and beside it the addresses that its descriptors name. `get` None forbids them."""

    def __init__(self, source: _Source, get: Get | None) -> None:
        self._source = source
        self._get = get

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

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Yield the blob's bytes as they arrive, not verified.

        Raises as the source does, and what `get` raises if all addresses fail.
        """
        with ExitStack() as stack:
            try:
                chunks = stack.enter_context(self._source.open_blob(descriptor))
            except NotFoundError as error:
                if not _is_foreign(descriptor):
                    raise
                chunks = stack.enter_context(self._elsewhere(descriptor, error))
            yield chunks

    @contextmanager
    def _elsewhere(
        self, descriptor: Descriptor, not_found: NotFoundError
    ) -> Iterator[Iterator[bytes]]:
        if self._get is None:
            raise NotFoundError(
                f"Layer {descriptor.digest} is not where the image is, "
                "for it may not be distributed.",
                expected=f"{len(descriptor.urls)} addresses elsewhere to be allowed",
                hint="Fetch such layers from where the image says with --foreign-layers.",
            ) from not_found
        failed: SaltflatError | None = None
        with ExitStack() as stack:
            for url in descriptor.urls[:MAX_URLS]:
                try:
                    chunks = stack.enter_context(self._get(url, f"layer {descriptor.digest}"))
                    break
                except SaltflatError as error:
                    failed = error
            else:
                raise failed or UnavailableError(f"No address has layer {descriptor.digest}.")
            yield chunks


class ResumingWithForeignLayers(WithForeignLayers):
    """The same of a source that can go on in the middle of a blob."""

    def __init__(self, source: _ResumingSource, get: Get | None) -> None:
        super().__init__(source, get)
        self._resuming = source

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete the blob in `into` and check it. Raises as `open_blob` does."""
        try:
            self._resuming.receive(descriptor, into)
        except NotFoundError as error:
            if not _is_foreign(descriptor):
                raise
            into.restart()
            with self._elsewhere(descriptor, error) as chunks:
                for chunk in chunks:
                    into.write(chunk)
            into.check()


def _is_foreign(descriptor: Descriptor) -> bool:
    return descriptor.media_type in c.FOREIGN_LAYER_TYPES and bool(descriptor.urls)
