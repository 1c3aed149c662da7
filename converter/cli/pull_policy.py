"""Whether a registry is asked what an image's name stands for: docker's --pull, for `run`."""

from __future__ import annotations

import enum

from converter.cli.caching import Caching
from converter.cli.images import convert_source
from converter.convert_options import ConvertOptions
from converter.errors import NotFoundError
from converter.events import Monitor, Note
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import Origin
from converter.pipeline import Chain, find_converted
from converter.store.layout import Store
from converter.store.names import image_by_name


class PullPolicy(enum.Enum):
    """When a registry is asked: by docker's words."""

    ALWAYS = "always"
    MISSING = "missing"
    NEVER = "never"


def obtain_chain(
    text: str,
    store: Store,
    pull: PullPolicy,
    *,
    origin: Origin,
    conversion: ConvertOptions,
    caching: Caching,
    monitor: Monitor,
) -> Chain:
    """Return the chain of SOURCE: what is here under that name, or what its registry says it is.

    What is no registry's is read where it is. To be called while the store is in use. Raises
    NotFoundError for what is not here and is not to be asked for, and as `convert_source`.
    """
    reference = parse_source(text)
    if isinstance(reference, RegistryReference) and pull is not PullPolicy.ALWAYS:
        chain = _chain_at_hand(reference, store, origin.platform, conversion, monitor)
        if chain is not None:
            return chain
        if pull is PullPolicy.NEVER:
            raise NotFoundError(
                f"Nothing that is converted here has the name {reference}.",
                expected=f"an image for {origin.platform}, converted with the same options",
                hint=f"Leave out --pull never, or convert it first: saltflat convert {text}",
            )
    return convert_source(
        text,
        store,
        origin=origin,
        conversion=conversion,
        caching=caching,
        monitor=monitor,
    ).chain


def _chain_at_hand(
    reference: RegistryReference,
    store: Store,
    platform: Platform,
    conversion: ConvertOptions,
    monitor: Monitor,
) -> Chain | None:
    conversion.policy.check_reference(reference)  # as where it is asked for
    image = image_by_name(store, reference, platform)
    if image is None:
        return None
    chain = find_converted(image, store, conversion, monitor=monitor)
    if chain is not None:
        monitor(Note(f"{reference} is {image.digest}, {image.platform}, as before", minor=True))
    return chain
