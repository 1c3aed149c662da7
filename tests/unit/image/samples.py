"""Small images made by hand: documents as dictionaries, and a layout folder that holds them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.model import Descriptor

Document = dict[str, object]


def as_json(document: object) -> bytes:
    """Return a document's bytes."""
    return json.dumps(document).encode()


def descriptor(content: bytes, media_type: str, **more: object) -> Document:
    """Return the JSON descriptor of `content`."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content), **more}


def described(content: bytes, media_type: str = c.LAYER_GZIP) -> Descriptor:
    """Return the descriptor of `content` as a model value."""
    return Descriptor(media_type, Digest.of(content), len(content))


class Blobs(dict[str, bytes]):
    """Content by digest: enough of a registry or a layout for whoever reads documents."""

    def add(self, content: bytes, media_type: str, **more: object) -> Document:
        """Keep `content`, return its JSON descriptor."""
        entry = descriptor(content, media_type, **more)
        self[str(entry["digest"])] = content
        return entry

    def image(
        self, *layers: bytes, architecture: str = "amd64", os: str = "linux", **config: object
    ) -> Document:
        """Keep an image whose layers are plain tar blobs; return its manifest's descriptor."""
        rootfs = {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]}
        configuration = {"os": os, "architecture": architecture, "rootfs": rootfs, **config}
        manifest = {
            "schemaVersion": 2,
            "mediaType": c.OCI_MANIFEST,
            "config": self.add(as_json(configuration), c.OCI_CONFIG),
            "layers": [self.add(layer, c.LAYER_TAR) for layer in layers],
        }
        return self.add(as_json(manifest), c.OCI_MANIFEST)

    def index(self, *entries: Document) -> Document:
        """Keep an index of `entries`; return its descriptor."""
        document = {"schemaVersion": 2, "mediaType": c.OCI_INDEX, "manifests": list(entries)}
        return self.add(as_json(document), c.OCI_INDEX)

    def read(self, wanted: Descriptor) -> bytes:
        """Return what a descriptor points to."""
        return self[str(wanted.digest)]

    def write_layout(self, folder: Path, *entries: Document) -> None:
        """Make `folder` an OCI layout with all content, and `entries` in its index.json."""
        for digest, content in self.items():
            path = folder / c.LAYOUT_BLOBS / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / c.LAYOUT_FILE).write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
        index = {"schemaVersion": 2, "manifests": list(entries)}
        (folder / c.LAYOUT_INDEX).write_bytes(as_json(index))


def on(entry: Document, platform: str) -> Document:
    """Return an index entry with a platform, given as os/architecture[/variant]."""
    keys = ("os", "architecture", "variant")
    return {**entry, "platform": dict(zip(keys, platform.split("/"), strict=False))}


def tagged(entry: Document, tag: str) -> Document:
    """Return an index.json entry that carries a tag."""
    return {**entry, "annotations": {c.ANNOTATION_REF_NAME: tag}}
