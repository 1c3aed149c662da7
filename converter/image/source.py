"""Where images come from: one interface, and the one place that knows which sources there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from converter.image.layout import LayoutSource
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import ImageReference, LayoutReference
from converter.image.registry_source import MirrorPlace, RegistrySource
from converter.registry.client import RegistryClient
from converter.registry.options import Mirror, RegistryOptions

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
    with ExitStack() as opened:
        mirrors = [
            MirrorPlace(
                opened.enter_context(RegistryClient(mirror.host, _mirror_options(mirror, options))),
                mirror.prefix,
            )
            for mirror in options.mirrors
        ]
        client = opened.enter_context(RegistryClient(reference.api_host, options))
        yield RegistrySource(reference, client, mirrors)


def _mirror_options(mirror: Mirror, options: RegistryOptions) -> RegistryOptions:
    return replace(
        options,
        plain_http=options.plain_http if mirror.plain_http is None else mirror.plain_http,
        credential=None,  # it was given for the registry
        retries=min(options.retries, 1),  # there is somebody else to ask
        mirrors=(),
    )
