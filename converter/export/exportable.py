"""What is exported: an image's chain, wherever it lies, and all that is known of the image.

Owns that value and how bundles and images in the store become one. It reads no disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.errors import IntegrityError, NotFoundError
from converter.image.documents import parse_document
from converter.image.model import Image, Manifest
from converter.image.platform import Platform
from converter.store.bundle import Bundle
from converter.store.bundle_boot import BundleBoot
from converter.store.links import ChainParameters, LinkRecord


@dataclass(frozen=True, slots=True)
class ExportLink:
    """One link of the chain: its file, which nobody writes, and what its record says of it.

    `parent` is the link below's id, "" at the bottom; `layers` the diffIDs that it covers, base
    first.
    """

    path: Path
    link_id: str
    parent: str
    layers: tuple[str, ...]
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exportable:
    """An image as a chain of disks, `links` base first, at least one.

    `digest` is the manifest's, with its algorithm. `manifest_raw` and `config_raw` are the image's
    documents byte for byte. `boot` is what a bundle says that it is meant to start with.
    """

    reference: str
    digest: str
    platform: Platform
    manifest_raw: bytes = field(repr=False)
    config_raw: bytes = field(repr=False)
    parameters: ChainParameters
    links: tuple[ExportLink, ...]
    boot: BundleBoot | None = None

    @property
    def capacity_bytes(self) -> int:
        """The disk's size as the guest sees it, the same for every link."""
        return self.parameters.capacity_bytes

    @property
    def top(self) -> Path:
        """The topmost link's file: what to open for the whole disk."""
        return self.links[-1].path

    @property
    def execution(self) -> Mapping[str, Any]:
        """The configuration's own "config" object: Entrypoint, Cmd, Env and so on.

        Raises IntegrityError if the configuration is not readable.
        """
        try:
            execution = json.loads(self.config_raw).get("config") or {}
        except (ValueError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"The image's configuration is not readable: {error}.") from error
        if not isinstance(execution, dict):
            raise IntegrityError('The image\'s configuration has a "config" that is no object.')
        return execution

    def manifest(self) -> Manifest:
        """Return the image's manifest: the digests of its configuration and of its layers.

        Raises IntegrityError if it is none.
        """
        manifest = parse_document(self.manifest_raw, None, what=f"The manifest of {self.reference}")
        if not isinstance(manifest, Manifest):
            raise IntegrityError(f"The manifest of {self.reference} is an index.")
        return manifest

    def identity(self, purpose: str) -> str:
        """Return 64 hex digits that follow from the disk's content and from what they are for.

        Content ids, UUIDs and addresses are made of them: the same for every export of this chain.
        """
        top = self.links[-1].link_id
        return hashlib.sha256(b"\0".join((b"export", purpose.encode(), top.encode()))).hexdigest()


def exportable_of_image(
    image: Image,
    parameters: ChainParameters,
    links: Sequence[LinkRecord],
    disks: Sequence[Path],
) -> Exportable:
    """Return what an image in the store is; its `links` and their `disks` base first.

    To be used while the store is in use (`converter.store.locks.using`).
    """
    return Exportable(
        image.reference,
        str(image.digest),
        image.platform,
        image.manifest_raw,
        image.config_raw,
        parameters,
        tuple(
            ExportLink(disk, link.link_id, link.parent, link.diff_ids, link.size_bytes, link.sha256)
            for link, disk in zip(links, disks, strict=True)
        ),
    )


def exportable_of_bundle(bundle: Bundle) -> Exportable:
    """Return what a bundle is. Raises NotFoundError when it has lost the image's manifest."""
    path = bundle.folder / "manifest.json"
    try:
        manifest_raw = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} is missing.",
            expected="a whole bundle, as saltflat convert -o makes it",
            hint="Convert the image again.",
        ) from error
    return Exportable(
        bundle.reference,
        bundle.digest,
        Platform.parse(bundle.platform),
        manifest_raw,
        bundle.config_raw,
        bundle.parameters,
        tuple(
            ExportLink(disk, link.link_id, link.parent, link.layers, link.size, link.sha256)
            for link, disk in zip(bundle.links, bundle.disks, strict=True)
        ),
        bundle.boot,
    )
