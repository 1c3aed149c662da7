"""Image archives as several programs write them, made from an OCI layout without those programs.

Owns the forms: what docker wrote before version 25 and writes with containerd's image store, what
crane and kaniko write. What skopeo and podman write, skopeo can make itself.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Parts:
    """An image of a layout: documents and layers as they lie there (gzip), base first."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]


def parts_of(layout: Path, tag: str) -> Parts:
    """Return the image `tag` of an OCI layout whose layers are gzip archives."""
    index = json.loads((layout / "index.json").read_bytes())
    entry = next(
        entry
        for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag
    )
    manifest = _blob(layout, entry)
    document = json.loads(manifest)
    config = _blob(layout, document["config"])
    return Parts(manifest, config, tuple(_blob(layout, layer) for layer in document["layers"]))


def write_legacy(path: Path, *images: tuple[str, Parts]) -> None:
    """Write what `docker save` wrote up to version 24: <id>/layer.tar, and links where it repeats.

    `images` are pairs of a name with a tag and the image.
    """
    entries, repositories = [], {}
    first_of: dict[str, str] = {}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, image in images:
            layers = []
            for number, packed in enumerate(image.layers):
                layer = gzip.decompress(packed)
                digest = hashlib.sha256(layer).hexdigest()
                identity = hashlib.sha256(f"{name} {number} {digest}".encode()).hexdigest()
                _folder(tar, f"{identity}/")
                _file(tar, f"{identity}/VERSION", b"1.0")
                _file(tar, f"{identity}/json", json.dumps({"id": identity}).encode())
                if digest in first_of:
                    _link(tar, f"{identity}/layer.tar", f"../{first_of[digest]}/layer.tar")
                else:
                    _file(tar, f"{identity}/layer.tar", layer)
                    first_of[digest] = identity
                layers.append(f"{identity}/layer.tar")
            config = f"{hashlib.sha256(image.config).hexdigest()}.json"
            if config not in tar.getnames():
                _file(tar, config, image.config)
            entries.append({"Config": config, "RepoTags": [name], "Layers": layers})
            repository, _, tag = name.rpartition(":")
            repositories[repository] = {tag: layers[-1].partition("/")[0]}
        _file(tar, "manifest.json", json.dumps(entries).encode())
        _file(tar, "repositories", json.dumps(repositories).encode())


def write_containerd(path: Path, name: str, image: Parts) -> None:
    """Write what `docker save` writes with containerd's image store: a layout and manifest.json."""
    documents = {_name(data): data for data in (image.manifest, image.config, *image.layers)}
    entry = {
        "mediaType": json.loads(image.manifest)["mediaType"],
        "digest": f"sha256:{hashlib.sha256(image.manifest).hexdigest()}",
        "size": len(image.manifest),
        "annotations": {
            "io.containerd.image.name": f"docker.io/library/{name}",
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
    }
    entries = [
        {
            "Config": _name(image.config),
            "RepoTags": [name],
            "Layers": [_name(layer) for layer in image.layers],
        }
    ]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        _folder(tar, "blobs/")
        _folder(tar, "blobs/sha256/")
        for member, data in sorted(documents.items()):
            _file(tar, member, data)
        _file(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        _file(tar, "manifest.json", json.dumps(entries).encode())
        _file(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def write_crane(path: Path, name: str, image: Parts) -> None:
    """Write what crane, kaniko and bazel write: gzip layers named by their digest."""
    config = f"sha256:{hashlib.sha256(image.config).hexdigest()}"
    layers = {f"{hashlib.sha256(layer).hexdigest()}.tar.gz": layer for layer in image.layers}
    entries = [{"Config": config, "RepoTags": [name], "Layers": [*layers]}]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        _file(tar, config, image.config)
        for member, layer in layers.items():
            _file(tar, member, layer)
        _file(tar, "manifest.json", json.dumps(entries).encode())


def write_single_manifest(layout: Path, manifest: bytes) -> None:
    """Write a layout that has nothing but this manifest, which index.json calls an OCI one."""
    name = _name(manifest)
    (layout / name).parent.mkdir(parents=True)
    (layout / name).write_bytes(manifest)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}",
        "size": len(manifest),
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(layout: Path, descriptor: Any) -> bytes:
    algorithm, encoded = cast("str", descriptor["digest"]).split(":")
    return (layout / "blobs" / algorithm / encoded).read_bytes()


def _name(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    tar.addfile(info)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
