"""An image from its two documents, which travel with its chain. Pure."""

from __future__ import annotations

from converter.errors import IntegrityError
from converter.image.digest import Digest
from converter.image.documents import pair_layers, parse_config, parse_document
from converter.image.model import Image, Manifest
from converter.image.platform import Platform
from converter.image.verify import verify_document
from converter.store.links import LinkRecord


def assemble_image(
    reference: str, platform: Platform, digest: Digest, *, manifest_raw: bytes, config_raw: bytes
) -> Image:
    """Return the image that manifest and configuration describe; both are verified.

    Raises IntegrityError, UsageError for documents of what is no image.
    """
    what = f"The manifest of {reference}"
    verify_document(manifest_raw, digest, what=what)
    manifest = parse_document(manifest_raw, None, what=what)
    if not isinstance(manifest, Manifest):
        raise IntegrityError(f"{what} is an index.", expected="the manifest of one image")
    what = f"The configuration of {reference}"
    verify_document(config_raw, manifest.config.digest, what=what)
    config = parse_config(config_raw, what=what)
    layers = pair_layers(manifest, config, what=reference)
    return Image(reference, digest, platform, manifest, manifest_raw, config, config_raw, layers)


def check_layers(image: Image, links: tuple[LinkRecord, ...]) -> None:
    """Check that `links` cover layers of `image`, in their order; some layers change nothing.

    Raises IntegrityError.
    """
    rest = iter([str(layer.diff_id) for layer in image.layers])
    for link in links:
        for diff_id in link.diff_ids:
            if diff_id not in rest:  # takes out what stands before it
                raise IntegrityError(
                    f"The link {link.link_id} is to hold the layer {diff_id}.",
                    expected=f"the layers of {image.reference}, in their order",
                )
