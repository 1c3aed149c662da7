"""From a SOURCE argument to an image or its chain, for every verb that takes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from converter.cli.caching import Caching, open_cache
from converter.cli.options import Origin
from converter.cli.registries import access_for
from converter.errors import UsageError
from converter.events import Monitor, Note
from converter.image.model import Image
from converter.image.reference import BundleReference, RegistryReference, parse_source
from converter.image.source import Source, open_source
from converter.pipeline import Chain, ConvertOptions, convert
from converter.store.layout import Store


@contextmanager
def open_image(
    text: str,
    origin: Origin,
) -> Iterator[tuple[Image, Source]]:
    """Yield the image that SOURCE names, and the source that its layers come from."""
    reference = parse_source(text)
    if isinstance(reference, BundleReference):
        raise UsageError(
            f"{text} is a bundle, which is converted already.",
            expected="an image: HOST/REPO[:TAG] or oci:DIR[:TAG]",
        )
    with open_source(reference, origin.access) as source:
        yield source.resolve(origin.platform), source


def convert_source(
    text: str,
    store: Store,
    *,
    origin: Origin,
    conversion: ConvertOptions,
    caching: Caching,
    named: str = "",
    monitor: Monitor,
) -> Chain:
    """Bring the image that SOURCE names into the store and return its chain.

    `named` is the registry that a password is for, if it is not the image's.
    """
    reference = parse_source(text)
    host = reference.host if isinstance(reference, RegistryReference) else ""
    named = named or host
    access = access_for(host, origin.access, named=named)
    with (
        open_image(text, replace(origin, access=access)) as (image, source),
        open_cache(caching, store, origin.access, named=named, monitor=monitor) as cache,
    ):
        monitor(Note(f"{image.reference} is {image.digest}, {image.platform}", minor=True))
        return convert(image, source, store, conversion, monitor=monitor, cache=cache)
