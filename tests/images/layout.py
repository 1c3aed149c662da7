"""OCI image layouts written to a folder. Owns manifests, configs and blob names, not tar members.

The same layers give the same bytes: gzip headers carry no time and JSON keys are sorted.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from tests.images.tarball import TarBuilder

LayerWriter = Callable[[TarBuilder], None]
CREATED = "2020-09-13T12:26:40Z"
_GZIP_WINDOW_BITS = 31  # zlib's spelling of "with a gzip header", whose mtime is then zero


class LayoutWriter:
    """Collect layers into the OCI layout `folder`; `finish` tags the image and makes it whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._layers: list[dict[str, object]] = []
        self._diff_ids: list[str] = []
        self._history: list[dict[str, object]] = []

    def layer(self, write: LayerWriter, *, comment: str) -> None:
        """Add the gzip layer whose members `write` makes."""
        temp = self._blobs / ".tmp-layer"
        with temp.open("wb") as file:
            stream = _HashedGzip(file)
            tar = TarBuilder(cast("BinaryIO", stream))
            write(tar)
            tar.close()
            stream.finish()
        digest = f"sha256:{stream.outer.hexdigest()}"
        temp.rename(self._blobs / stream.outer.hexdigest())
        self._layers.append(
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest,
                "size": stream.size_bytes,
            }
        )
        self._diff_ids.append(f"sha256:{stream.inner.hexdigest()}")
        self._history.append({"created": CREATED, "created_by": comment})

    def finish(
        self,
        *,
        config: Mapping[str, object],
        tags: Sequence[str] = ("latest",),
        architecture: str = "amd64",
    ) -> str:
        """Write config, manifest and index; every prefix of k layers is tagged `prefix-k` too.

        A shorter prefix has no user: the layer that names it may be missing.
        Returns the digest of the whole image's manifest.
        """
        entries: list[dict[str, object]] = []
        digest = ""
        for count in range(1, len(self._layers) + 1):
            whole = count == len(self._layers)
            kept = {key: value for key, value in config.items() if whole or key != "User"}
            manifest = self._manifest(count, kept, architecture)
            digest = str(manifest["digest"])
            names = [f"prefix-{count}", *(tags if whole else ())]
            entries += [
                {**manifest, "annotations": {"org.opencontainers.image.ref.name": name}}
                for name in names
            ]
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        }
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self._folder / "index.json").write_bytes(_json(index))
        return digest

    def _manifest(
        self, count: int, config: Mapping[str, object], architecture: str
    ) -> dict[str, object]:
        image = {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": self._diff_ids[:count]},
            "history": self._history[:count],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob(_json(image), "application/vnd.oci.image.config.v1+json"),
            "layers": self._layers[:count],
        }
        return {
            **self._blob(_json(manifest), "application/vnd.oci.image.manifest.v1+json"),
            "platform": {"architecture": architecture, "os": "linux"},
        }

    def _blob(self, data: bytes, media_type: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (self._blobs / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}


class _HashedGzip:
    """Compress what is written, hashing it before and after."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW_BITS)
        self.inner = hashlib.sha256()
        self.outer = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.inner.update(data)
        self._emit(self._deflate.compress(data))
        return len(data)

    def finish(self) -> None:
        self._emit(self._deflate.flush())

    def _emit(self, data: bytes) -> None:
        self.outer.update(data)
        self._file.write(data)
        self.size_bytes += len(data)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
