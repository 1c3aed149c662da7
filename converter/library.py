"""saltflat as a library: one function per task, as `import converter` offers them.

The verbs of the command line call these, so a program and a person take the same road. Nothing here
prints; progress goes to a monitor. What is said of it is in docs/library.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.convert_options import ConvertOptions
from converter.errors import SaltflatError, UsageError
from converter.events import Monitor, Note, ignore
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.reference import BundleReference, ImageReference, parse_source
from converter.image.source import Origin, Source, SourceOptions, open_source
from converter.layer.limits import DEFAULT_LIMITS, Limits
from converter.linkcache import NO_CACHE, LinkCache
from converter.pipeline import Chain, find_converted
from converter.pipeline import convert as convert_image
from converter.policy import Policy
from converter.store.bundle import is_bundle_of, refuse_occupied, source_at, write_bundle
from converter.store.bundle_boot import BundleBoot
from converter.store.layout import Store, default_store
from converter.store.links import ChainParameters
from converter.store.locks import using

if TYPE_CHECKING:
    from converter.verification import Check

__all__ = [
    "BundleTarget",
    "Chain",
    "ChainParameters",
    "ConvertOptions",
    "Converted",
    "Limits",
    "Origin",
    "Platform",
    "Policy",
    "SourceOptions",
    "convert",
    "open_image",
    "verify",
]

_AS_EVER = ConvertOptions()
_ANYWHERE = Origin()


@dataclass(frozen=True, slots=True)
class BundleTarget:
    """The bundle that a conversion makes in `folder`; docs/formats.md says what is in it.

    `boot` is the boot image that it names, `force` replaces a bundle that is there, and `copy` lets
    its disks share nothing with the store's.
    """

    folder: Path
    boot: BundleBoot | None = None
    force: bool = False
    copy: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """An image's chain in the store; `changed` is false where there was nothing to do."""

    chain: Chain
    changed: bool


def convert(
    source: str,
    *,
    store: Path | None = None,
    origin: Origin = _ANYWHERE,
    options: ConvertOptions = _AS_EVER,
    bundle: BundleTarget | None = None,
    if_changed: bool = False,
    cache: LinkCache = NO_CACHE,
    monitor: Monitor = ignore,
) -> Converted:
    """Convert the image `source`, as the command line names it, into `store`.

    The store is the user's own if None is named. With `if_changed` nothing is done, and a bundle is
    left as it is, when this very image is converted with these options and the bundle is of it.

    Raises the errors of converter.errors: UsageError for a source that is none or a bundle that is
    in the way, NotFoundError, AuthError and UnavailableError of registries, IntegrityError,
    PolicyError; and OSError.
    """
    if bundle is not None and not if_changed:
        refuse_occupied(bundle.folder, force=bundle.force)  # before anything is fetched
    kept = Store(default_store() if store is None else store)
    with (
        using(kept, monitor=monitor),  # until the bundle has its disks too
        open_image(source, origin, store=kept, policy=options.policy, monitor=monitor) as (
            image,
            opened,
        ),
    ):
        monitor(Note(f"{image.reference} is {image.digest}, {image.platform}", minor=True))
        chain = find_converted(image, kept, options, monitor=monitor) if if_changed else None
        changed = chain is None
        if chain is None:
            chain = convert_image(image, opened, kept, options, monitor=monitor, cache=cache)
        if bundle is not None and (changed or not is_there(bundle, chain)):
            changed = True
            write_bundle(
                bundle.folder,
                chain.image,
                chain.parameters,
                chain.links,
                chain.disks,
                boot=bundle.boot,
                force=bundle.force,
                copy=bundle.copy,
            )
    return Converted(chain, changed)


def verify(
    target: Path,
    *,
    image: str | None = None,
    store: Path | None = None,
    origin: Origin = _ANYWHERE,
    limits: Limits = DEFAULT_LIMITS,
    monitor: Monitor = ignore,
) -> tuple[Check, ...]:
    """Check a bundle's folder, or a chain by its topmost VMDK, and return all that is sound.

    With `image` its tree is compared with the layers of that source, which are kept in `store`; no
    network is asked otherwise. Raises IntegrityError that names the first fault, NotFoundError, and
    as `convert` does.
    """
    # It brings the readers of everything along, and conversions write.
    from converter.verification import ImageAtHand  # noqa: PLC0415 - see above
    from converter.verification import verify as verify_target  # noqa: PLC0415 - see above

    if image is None:
        return verify_target(target, monitor=monitor)
    kept = Store(default_store() if store is None else store)
    with open_image(image, origin, store=kept, monitor=monitor) as (found, opened):
        at_hand = ImageAtHand(found, opened, kept.blobs, limits)
        return verify_target(target, image=at_hand, monitor=monitor)


@contextmanager
def open_image(
    source: str,
    origin: Origin = _ANYWHERE,
    *,
    store: Store | None = None,
    policy: Policy | None = None,
    monitor: Monitor = ignore,
) -> Iterator[tuple[Image, Source]]:
    """Yield the image that `source` names, and the source that its layers come from.

    A copy of an archive that cannot be read in place lies in `store`, if there is one, and what it
    has of the image's documents is not asked for again. Raises as `convert` does.
    """
    reference = image_reference(source)
    if policy is not None:
        policy.check_reference(reference)
    with open_source(
        reference,
        origin.access,
        foreign_layers=origin.foreign_layers,
        spool=None if store is None else store.root,
        known=None if store is None else store.blobs,
        monitor=monitor,
    ) as opened:
        yield opened.resolve(origin.platform), opened


def image_reference(source: str) -> ImageReference:
    """Read the name of an image. Raises UsageError for what is none, and for a bundle's."""
    reference = parse_source(source)
    if isinstance(reference, BundleReference):
        named = source_at(reference.path)
        if named is not None and not named.startswith("bundle:"):
            raise UsageError(
                f"{source} is the name of a bundle, and there is none.",
                expected="an image: HOST/REPO[:TAG], oci:DIR[:TAG] or an archive",
                hint=f"What is there is called {named}.",
            )
        raise UsageError(
            f"{source} is a bundle, which is converted already.",
            expected="an image: HOST/REPO[:TAG], oci:DIR[:TAG] or an archive",
        )
    return reference


def is_there(bundle: BundleTarget, chain: Chain) -> bool:
    """Tell whether the bundle is there already, just as `convert` would write it."""
    try:
        return is_bundle_of(bundle.folder, chain.image, chain.parameters, chain.links, bundle.boot)
    except (SaltflatError, OSError):
        return False  # none, or a damaged one: for the writer to judge
