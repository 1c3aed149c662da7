"""Where images come from: one interface, and the one place that knows which sources there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from converter.image.layout import LayoutSource
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import ImageReference, LayoutReference
from converter.image.registry_source import RegistrySource
from converter.registry.client import RegistryClient, RegistryOptions

SourceOptions = RegistryOptions  # only registries have options; folders need none


class Source(Protocol):
    """One image at its place of origin. What its methods raise is said at each implementation."""

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`; its documents are verified."""

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Yield a blob's raw bytes in chunks; see `converter.image.verify.verified`."""

    def local_blob(self, descriptor: Descriptor) -> Path | None:
        """Return the file where the blob already lies, not verified, or None."""


@contextmanager
def open_source(reference: ImageReference, options: SourceOptions) -> Iterator[Source]:
    """Yield the source of a reference; `options` matter for registries. Raises UsageError.

    Nothing is contacted or opened before the source is used.
    """
    if isinstance(reference, LayoutReference):
        yield LayoutSource(reference)
        return
    with RegistryClient(reference.api_host, options) as client:
        yield RegistrySource(reference, client)
