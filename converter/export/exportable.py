"""What is exported: an image's chain, wherever it lies, and all that is known of the image.

Owns that value and how bundles and images in the store become one. It reads no disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.image.model import Image
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

    `boot` is what a bundle says that it is meant to start with.
    """

    image: Image
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
        image,
        parameters,
        tuple(
            ExportLink(disk, link.link_id, link.parent, link.diff_ids, link.size_bytes, link.sha256)
            for link, disk in zip(links, disks, strict=True)
        ),
    )


def exportable_of_bundle(bundle: Bundle, image: Image) -> Exportable:
    """Return what a bundle is; `image` is what its documents say."""
    return Exportable(
        image,
        bundle.parameters,
        tuple(
            ExportLink(disk, link.link_id, link.parent, link.layers, link.size, link.sha256)
            for link, disk in zip(bundle.links, bundle.disks, strict=True)
        ),
        bundle.boot,
    )
