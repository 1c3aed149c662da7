"""The verb `push`: an image's chain into a registry, as an artifact that refers to the image."""

from __future__ import annotations

from pathlib import Path

import click

from converter.artifact.codec import Codec
from converter.artifact.push import Pushed, push_chain
from converter.artifact.send import DEFAULT_CODEC
from converter.artifact.target import Target, parse_target
from converter.cli.caching import Caching, cache_options
from converter.cli.images import convert_source, hold_bundle_to, image_of_bundle, parse_argument
from converter.cli.options import (
    conversion_options,
    format_option,
    open_store,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.convert_options import ConvertOptions
from converter.errors import NotFoundError
from converter.image.model import Image
from converter.image.reference import BundleReference
from converter.image.source import Origin
from converter.registry.artifacts import ArtifactRepository
from converter.registry.client import RegistryClient
from converter.store.bundle import Bundle, read_bundle
from converter.store.layout import Store
from converter.store.links import LinkRecord, find_link
from converter.store.locks import using


@click.command("push")
@click.argument("source")
@click.argument("target")
@click.option(
    "--codec",
    type=click.Choice([codec.value for codec in Codec]),
    default=DEFAULT_CODEC.value,
    envvar="SALTFLAT_CODEC",
    show_envvar=True,
    show_default=True,
    help="How disks travel; what is there already in another form is not sent again.",
)
@conversion_options
@cache_options
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    source: str,
    target: str,
    codec: str,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Push the chain of the image or bundle SOURCE to the repository TARGET, HOST/REPO[:TAG].

    The image is converted first if it has to be. The chain is an OCI artifact whose subject is the
    image: with the image in the same repository, tools list it among the image's referrers, and
    saltflat pull finds it by the image's name. A TAG is its own, beside that; it must not be the
    image's. A bundle's links must be in the store, with what their children need. A password for
    --username is TARGET's.

    \b
    Examples:
      saltflat push registry.example/app:1 registry.example/app
      saltflat push ./bundle registry.example/app:1-chain
      saltflat push oci:./layout:1.0 --plain-http localhost:5000/app --format json
    """
    place = parse_target(target)
    reference = parse_argument(source)
    store = open_store(store_root)
    with using(store, monitor=output.monitor):
        if isinstance(reference, BundleReference):
            hold_bundle_to(conversion.policy, reference)
            image, links = _of_bundle(read_bundle(reference.path), store)
        else:
            chain = convert_source(
                source,
                store,
                origin=origin,
                conversion=conversion,
                caching=caching,
                named=place.reference.host,
                monitor=output.monitor,
            ).chain
            image, links = chain.image, chain.links
        with RegistryClient(place.reference.api_host, origin.access) as client:
            pushed = push_chain(
                image,
                links,
                store,
                ArtifactRepository(client, place.repository, host=place.reference.host),
                place,
                codec=Codec(codec),
                monitor=output.monitor,
            )
    _show(output, image, place, pushed)
    return 0


def _show(output: Output, image: Image, place: Target, pushed: Pushed) -> None:
    name = f"{place.reference.host}/{place.repository}"
    output.result(
        f"{name}@{pushed.digest}",
        {
            "schema": 1,
            "reference": f"{name}@{pushed.digest}",
            "tag": place.tag,
            "digest": str(pushed.digest),
            "subject": str(image.digest),
            "links": [
                {
                    "link_id": parcel.record.link_id,
                    "codec": parcel.codec.value,
                    "blob": str(parcel.disk.digest),
                    "blob_size": parcel.disk.size_bytes,
                    "size": parcel.record.size_bytes,
                    "sha256": parcel.record.sha256,
                }
                for parcel in pushed.parcels
                if parcel.disk is not None
            ],
        },
    )


def _of_bundle(bundle: Bundle, store: Store) -> tuple[Image, tuple[LinkRecord, ...]]:
    """Return a bundle's image, and its links as the store has them."""
    links = []
    for link in bundle.links:
        record = find_link(store, link.link_id)
        if record is None or record.sha256 != link.sha256:
            raise NotFoundError(
                f"The store does not have the link {link.link_id} of {bundle.folder}.",
                expected="its links in the store: a bundle lacks the states that are pushed too",
                hint=f"Push the image instead: saltflat push {bundle.reference} TARGET",
            )
        links.append(record)
    return image_of_bundle(bundle), tuple(links)
