"""Stores of a few bytes, made by the store's own code: links without disks' meaning, images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image, ImageConfig, Layer, Manifest
from converter.image.platform import DEFAULT_PLATFORM
from converter.store.images import ImageRecord, image_path, record_image
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, PendingLink, begin_link, link_id

PARAMETERS = ChainParameters()


def diff_id(name: str) -> Digest:
    """Return the digest of the layer `name`, uncompressed."""
    return Digest.of(f"tar {name}".encode())


def make_link(
    store: Store,
    parent: str,
    name: str,
    *,
    size_bytes: int = 1000,
    empty: bool = False,
    parameters: ChainParameters = PARAMETERS,
) -> LinkRecord:
    """Make, or find, the link of the layer `name` on top of `parent`."""
    layers = (str(diff_id(name)),)
    draft = LinkRecord(link_id(parent, layers, parameters), parent, layers, parameters)
    pending = begin_link(store, draft, on_wait=lambda: None)
    if not isinstance(pending, PendingLink):
        return pending
    if empty:
        return pending.commit_empty()
    pending.file.write(bytes(size_bytes))
    return pending.commit(grains=1, state=f"state {name}".encode())


def make_image(
    store: Store, layers: Sequence[str], *, used_at: int = 1_000_000, name: str = ""
) -> ImageRecord:
    """Record an image of `layers`, base first; one named "empty..." changes nothing."""
    links: list[LinkRecord] = []
    for layer in layers:
        parent = links[-1].link_id if links else ""
        link = make_link(store, parent, layer, empty=layer.startswith("empty"))
        if not link.empty:
            links.append(link)
    record = record_image(store, image_of(layers, name), PARAMETERS, links)
    os.utime(image_path(store, record.name), (used_at, used_at))
    return record


def image_of(layers: Sequence[str], name: str = "") -> Image:
    """Return an image whose layers' blobs are their names."""
    config_raw = json.dumps({"name": name, "layers": list(layers)}).encode()
    manifest_raw = b"manifest of " + config_raw
    found = tuple(
        Layer(Descriptor(c_oci.LAYER_GZIP, Digest.of(layer.encode()), 1), diff_id(layer))
        for layer in layers
    )
    config = Descriptor(c_oci.OCI_CONFIG, Digest.of(config_raw), len(config_raw))
    return Image(
        reference=name or "/".join(layers),
        digest=Digest.of(manifest_raw),
        platform=DEFAULT_PLATFORM,
        manifest=Manifest(c_oci.OCI_MANIFEST, config, tuple(layer.descriptor for layer in found)),
        manifest_raw=manifest_raw,
        config=ImageConfig(DEFAULT_PLATFORM, {}, tuple(layer.diff_id for layer in found)),
        config_raw=config_raw,
        layers=found,
    )


def put_blob(store: Store, content: bytes) -> Path:
    """Put a blob of that content into the store."""
    digest = Digest.of(content)
    path = store.blobs / digest.algorithm / digest.encoded
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
