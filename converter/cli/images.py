"""From a SOURCE argument to an image or its chain, for every verb that takes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.caching import Caching, open_cache
from converter.cli.registries import access_for
from converter.cli.stdin import claim_stdin
from converter.convert_options import ConvertOptions
from converter.errors import AuthError, IntegrityError, NotFoundError, UnavailableError
from converter.events import Monitor
from converter.image.c_oci import MAX_DOCUMENT_BYTES
from converter.image.digest import Digest
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.reference import (
    ArchiveReference,
    BundleReference,
    RegistryReference,
    SourceReference,
    parse_source,
)
from converter.image.source import Origin, Source
from converter.policy import ANYTHING, Policy
from converter.store.bundle import Bundle, read_bundle, source_at
from converter.store.layout import Store

if TYPE_CHECKING:
    from converter.library import BundleTarget, Converted


def parse_argument(text: str) -> SourceReference:
    """Read SOURCE or BUNDLE; if that is standard input, nobody else may read it any more.

    Raises UsageError.
    """
    reference = parse_source(text)
    if isinstance(reference, ArchiveReference) and reference.file is None:
        claim_stdin(text)
    return reference


@contextmanager
def open_image(
    text: str,
    origin: Origin,
    *,
    monitor: Monitor,
    store: Store | None = None,
) -> Iterator[tuple[Image, Source]]:
    """Yield the image that SOURCE names, and the source that its layers come from.

    A copy of an archive that cannot be read in place lies in `store`, if there is one.
    """
    from converter import library  # noqa: PLC0415 - as in convert_source

    reference = parse_argument(text)
    with (
        _pointing_at_paths(text, reference),
        library.open_image(text, origin, store=store, monitor=monitor) as opened,
    ):
        yield opened


def convert_source(
    text: str,
    store: Store,
    *,
    origin: Origin,
    conversion: ConvertOptions,
    caching: Caching,
    named: str = "",
    bundle: BundleTarget | None = None,
    if_changed: bool = False,
    monitor: Monitor,
) -> Converted:
    """Bring the image that SOURCE names into the store and return its chain.

    `named` is the registry that a password is for, if it is not the image's.
    """
    # It brings all that writes file systems along; a bundle is converted already.
    from converter import library  # noqa: PLC0415 - see above

    reference = parse_argument(text)
    host = reference.host if isinstance(reference, RegistryReference) else ""
    named = named or host
    access = access_for(host, origin.access, named=named)
    with (
        _pointing_at_paths(text, reference),
        open_cache(caching, store, origin.access, named=named, monitor=monitor) as cache,
    ):
        return library.convert(
            text,
            store=store.root,
            origin=replace(origin, access=access),
            options=conversion,
            bundle=bundle,
            if_changed=if_changed,
            cache=cache,
            monitor=monitor,
        )


@contextmanager
def _pointing_at_paths(text: str, reference: SourceReference) -> Iterator[None]:
    """Tell whoever names a path as if it were a registry's image what it is called."""
    try:
        yield
    except (AuthError, NotFoundError, UnavailableError) as error:
        if isinstance(reference, RegistryReference) and (named := source_at(Path(text))):
            error.hint = f"What is here under that name is called {named}."
        raise


def hold_bundle_to(policy: Policy, reference: BundleReference) -> None:
    """Check a bundle that nobody converts as the policy wants what is converted.

    Raises PolicyError, and what `image_of_bundle` raises.
    """
    if policy == ANYTHING:
        return
    policy.check_reference(reference)
    bundle = read_bundle(reference.path)
    policy.check_image(image_of_bundle(bundle))
    policy.check_disks(str(reference), sum(link.size for link in bundle.links))


def image_of_bundle(bundle: Bundle) -> Image:
    """Return the image that a bundle is of, its documents checked against their digests.

    Raises NotFoundError when the manifest is gone, IntegrityError.
    """
    # What loads it is for artifacts; most verbs that read images have none.
    from converter.artifact.image_documents import assemble_image  # noqa: PLC0415 - see above

    path = bundle.folder / "manifest.json"
    try:
        with path.open("rb") as file:
            manifest_raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} is missing.",
            expected="a whole bundle, as saltflat convert -o makes it",
            hint="Convert the image again.",
        ) from error
    try:
        digest = Digest.parse(str(bundle.digest))
    except ValueError as error:
        raise IntegrityError(
            f"{bundle.folder / 'bundle.json'} has the digest {str(bundle.digest)[:80]!a}.",
            expected=f"{error}",
        ) from error
    return assemble_image(
        bundle.reference,
        Platform.parse(bundle.platform),
        digest,
        manifest_raw=manifest_raw,
        config_raw=bundle.config_raw,
    )
