"""From a SOURCE argument to an image or its chain, for every verb that takes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.errors import UsageError
from converter.events import Monitor, Note
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.reference import BundleReference, parse_source
from converter.image.source import Source, SourceOptions, open_source
from converter.layer.limits import Limits
from converter.pipeline import Chain, convert
from converter.store.layout import Store
from converter.store.links import ChainParameters


@contextmanager
def open_image(
    text: str,
    *,
    platform: Platform,
    plain_http: bool,
    tls_verify: bool,
    ca_file: Path | None,
) -> Iterator[tuple[Image, Source]]:
    """Yield the image that SOURCE names, and the source that its layers come from."""
    reference = parse_source(text)
    if isinstance(reference, BundleReference):
        raise UsageError(
            f"{text} is a bundle, which is converted already.",
            expected="an image: HOST/REPO[:TAG] or oci:DIR[:TAG]",
        )
    options = SourceOptions(plain_http=plain_http, tls_verify=tls_verify, ca_file=ca_file)
    with open_source(reference, options) as source:
        yield source.resolve(platform), source


def convert_source(
    text: str,
    store: Store,
    *,
    platform: Platform,
    plain_http: bool,
    tls_verify: bool,
    ca_file: Path | None,
    parameters: ChainParameters,
    max_links: int,
    limits: Limits,
    monitor: Monitor,
) -> Chain:
    """Bring the image that SOURCE names into the store and return its chain."""
    with open_image(
        text, platform=platform, plain_http=plain_http, tls_verify=tls_verify, ca_file=ca_file
    ) as (image, source):
        monitor(Note(f"{image.reference} is {image.digest}, {image.platform}", minor=True))
        return convert(
            image,
            source,
            store,
            parameters=parameters,
            max_links=max_links,
            limits=limits,
            monitor=monitor,
        )
