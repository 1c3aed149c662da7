"""OCI layouts around layer blobs as they are given, right or wrong. Owns the documents alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

_KIND = "application/vnd.oci.image."
GZIP = "layer.v1.tar+gzip"
ZSTD = "layer.v1.tar+zstd"
PLAIN = "layer.v1.tar"
TAG = "latest"


@dataclass(frozen=True, slots=True)
class RawLayer:
    """A blob, and the diffID that the configuration claims: by default that of the blob itself."""

    blob: bytes
    diff_id: str = ""
    kind: str = PLAIN

    @property
    def claimed(self) -> str:
        """The diffID for the configuration."""
        return self.diff_id or digest_of(self.blob)


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of `data` as OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def zstd_layer(pieces: Iterable[bytes]) -> RawLayer:
    """Return a layer of `pieces`, each a zstd frame of its own, with the diffID that is theirs."""
    compress = zstandard.ZstdCompressor(level=1).compress
    hasher = hashlib.sha256()
    frames = []
    last = frame = b""
    for piece in pieces:
        hasher.update(piece)
        if piece != last:  # the same zeros many times over: compressed once
            last, frame = piece, compress(piece)
        frames.append(frame)
    return RawLayer(b"".join(frames), f"sha256:{hasher.hexdigest()}", ZSTD)


def write_layout(folder: Path, layers: Sequence[RawLayer]) -> str:
    """Write an image with `layers`, tagged `TAG`; return its SOURCE for the command line."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": _KIND + kind, "digest": digest, "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.claimed for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _KIND + "manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(layer.blob, layer.kind) for layer in layers],
    }
    entry = {
        **blob(json.dumps(manifest).encode(), "manifest.v1+json"),
        "annotations": {"org.opencontainers.image.ref.name": TAG},
    }
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"oci:{folder}"
