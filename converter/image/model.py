"""An image as values: descriptors, manifest, index, configuration. Pure; parsing is in documents.

Field names are those of the OCI image specification, in this language's spelling. The raw bytes of
manifest and configuration travel with them, for they are what the digests name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converter.image.digest import Digest
from converter.image.platform import Platform

__all__ = ["Descriptor", "Digest", "Image", "ImageConfig", "Index", "Layer", "Manifest", "Platform"]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Point to content: its media type, digest and exact size. (image-spec descriptor.md)

    `urls` are places outside of the registry from which the content may be had.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as transported (`descriptor`) and the digest of its uncompressed tar (`diff_id`)."""

    descriptor: Descriptor
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """Name one image's configuration and layers, base first. (image-spec manifest.md)"""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """List manifests or further indexes, usually one per platform. (image-spec image-index.md)"""

    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Describe what an image runs on and how its process starts. (image-spec config.md)

    `execution` is the document's "config" object as it is (Entrypoint, Cmd, Env, User, ...), its
    known members type-checked. `diff_ids` are base first.
    """

    platform: Platform
    execution: Mapping[str, object] = field(hash=False)
    diff_ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image, resolved: everything about it but the layers' content.

    `reference` is the text form of what was asked for, `digest` that of `manifest_raw`; `platform`
    is the one that was picked. `layers` are base first.
    """

    reference: str
    digest: Digest
    platform: Platform
    manifest: Manifest
    manifest_raw: bytes = field(repr=False)
    config: ImageConfig
    config_raw: bytes = field(repr=False)
    layers: tuple[Layer, ...]
