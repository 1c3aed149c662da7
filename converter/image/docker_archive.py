"""Images in what `docker save` writes, whoever wrote it: docker, podman, skopeo, crane, kaniko.

Its manifest.json lists the images, each with its names, its configuration and its layers by
member names; members may be links to each other, layers may be compressed in spite of their names.
There is no image manifest in it, so one is made (docs/formats.md says how). What proves the content
is the configuration: its diffIDs are checked when layers are read. (moby image/spec/v1.2.md,
"Combined Image JSON + Filesystem Changeset Format")
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.documents import parse_config
from converter.image.files import Content, Files
from converter.image.json_object import parse_objects, shown
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import DockerArchiveReference, parse_repository_tag
from converter.image.resolve import Root, resolve_image
from converter.image.sink import CheckedSink, copy_into
from converter.layer.compression import HEAD_BYTES, Compression, recognise

_NAMES_SHOWN = 20
_CONFIG_NAME = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_BLOB_NAME = re.compile(rf"{c.LAYOUT_BLOBS}/(sha256)/([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image in manifest.json: member names of its configuration and layers, base first."""

    config: str
    names: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchiveSource:
    """Read one image of the archive in `files`, which the caller keeps open."""

    def __init__(self, reference: DockerArchiveReference, files: Files) -> None:
        self.reference = reference
        self._files = files
        self._layers: dict[Digest, Content] = {}  # by the digest of the bytes as they lie there

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`. Raises NotFoundError, IntegrityError, UsageError."""
        entry = self._choose(_parse_entries(self._manifest(), what=self._what))
        config_raw = self._member(entry.config, "configuration").head(c.MAX_DOCUMENT_BYTES + 1)
        _check_config_name(entry.config, config_raw, what=self._what)
        config = parse_config(config_raw, what=f"The configuration of {self.reference}")
        if len(entry.layers) != len(config.diff_ids):
            raise IntegrityError(
                f"{self.reference} has {len(entry.layers)} layers, "
                f"but its configuration names {len(config.diff_ids)} diff_ids.",
                expected="one diff_id for each layer",
            )
        layers = []
        for name, diff_id in zip(entry.layers, config.diff_ids, strict=True):
            content = self._member(name, "layer")
            descriptor = _describe(name, content, diff_id)
            self._layers[descriptor.digest] = content
            layers.append(descriptor)
        manifest_raw = synthesise_manifest(config_raw, layers)
        root = Root(manifest_raw, Digest.of(manifest_raw), c.DOCKER_MANIFEST)
        return resolve_image(str(self.reference), root, platform, lambda _config: config_raw)

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Copy a layer into `into` and check it. Raises NotFoundError, IntegrityError."""
        copy_into(self.local_blob(descriptor), into)

    def hang_up(self) -> None:
        """Do nothing: files are not waited for."""

    def local_blob(self, descriptor: Descriptor) -> Content:
        """Return a layer where it lies, not verified. Raises NotFoundError."""
        content = self._layers.get(descriptor.digest)
        if content is None:
            raise NotFoundError(f"{self._files.place} has no layer {descriptor.digest}.")
        return content

    @property
    def _what(self) -> str:
        return f"{self._files.place}/{c.DOCKER_ARCHIVE_MANIFEST}"

    def _manifest(self) -> bytes:
        content = self._files.find(c.DOCKER_ARCHIVE_MANIFEST)
        if content is not None:
            return content.head(c.MAX_DOCUMENT_BYTES + 1)
        hint = None
        if self._files.find(c.LAYOUT_INDEX) is not None:
            hint = f"It has an {c.LAYOUT_INDEX}: name it oci-archive:FILE."
        elif self._files.find(c.DOCKER_ARCHIVE_LEGACY) is not None:
            hint = "It is of a docker before 1.10: load it into a current one and save it again."
        raise NotFoundError(
            f"{self._files.place} is not an archive that docker saved: "
            f"it has no {c.DOCKER_ARCHIVE_MANIFEST}.",
            expected="the output of docker save, podman save or skopeo copy ... docker-archive:",
            hint=hint,
        )

    def _member(self, name: str, role: str) -> Content:
        content = self._files.find(_normal(name))
        if content is None:
            raise IntegrityError(
                f"{self._what} names the {role} {shown(name)}, which is not in the archive."
            )
        return content

    def _choose(self, entries: Sequence[_Entry]) -> _Entry:
        """Return the entry that the reference means, or say what there is."""
        reference = self.reference
        if reference.number is not None:
            found = list(entries[reference.number : reference.number + 1])
        elif reference.name is not None:
            wanted = str(reference.name)
            found = [entry for entry in entries if wanted in map(_normal_name, entry.names)]
        else:
            found = list(entries)
        if len(found) == 1:
            return found[0]
        there = [
            f"@{number} ({', '.join(map(shown, entry.names)) or 'no name'})"
            for number, entry in enumerate(entries[:_NAMES_SHOWN])
        ]
        expected = f"one of: {', '.join(there)}" if there else "an archive with an image"
        if not found:
            raise NotFoundError(
                f"{reference} was not found: the archive has no such image.", expected=expected
            )
        raise UsageError(
            f"{reference} may be any of {len(found)} images.",
            expected=expected,
            hint="Name one: docker-archive:FILE:NAME:TAG or docker-archive:FILE:@NUMBER.",
        )


def synthesise_manifest(config_raw: bytes, layers: Sequence[Descriptor]) -> bytes:
    """Return the schema 2 manifest of an image whose layers lie as they are described.

    It is, byte for byte, the one that containers/image (skopeo, podman) makes when it reads an
    archive of uncompressed layers, so that all agree on the digest; hence the order of the members
    and the media type, which is that of gzip for plain layers too.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": c.DOCKER_MANIFEST,
        "config": {
            "mediaType": c.DOCKER_CONFIG,
            "size": len(config_raw),
            "digest": str(Digest.of(config_raw)),
        },
        "layers": [
            {
                "mediaType": layer.media_type,
                "size": layer.size_bytes,
                "digest": str(layer.digest),
            }
            for layer in layers
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _describe(name: str, content: Content, diff_id: Digest) -> Descriptor:
    """Return the descriptor of a layer as it lies in the archive.

    The bytes of a plain one are those that the diffID names. Of a compressed one the digest is the
    member's name where that is one, else it has to be computed.
    """
    compression = recognise(content.head(HEAD_BYTES), f"Layer {shown(name)}")
    if compression is Compression.NONE:
        return Descriptor(c.DOCKER_LAYER_GZIP, diff_id, content.size_bytes)
    kind = c.DOCKER_LAYER_ZSTD if compression is Compression.ZSTD else c.DOCKER_LAYER_GZIP
    if named := _BLOB_NAME.fullmatch(_normal(name)):
        return Descriptor(kind, Digest(named[1], named[2]), content.size_bytes)
    hasher = hashlib.sha256()
    with content.chunks() as chunks:
        for chunk in chunks:
            hasher.update(chunk)
    return Descriptor(kind, Digest("sha256", hasher.hexdigest()), content.size_bytes)


def _parse_entries(raw: bytes, *, what: str) -> list[_Entry]:
    return [
        _Entry(
            fields.text("Config"),
            tuple(fields.optional_texts("RepoTags") or ()),
            tuple(fields.optional_texts("Layers") or ()),
        )
        for fields in parse_objects(raw, what=what, limit=c.MAX_DOCUMENT_BYTES)
    ]


def _check_config_name(name: str, raw: bytes, *, what: str) -> None:
    """Check a configuration against its name, where that is its digest, as docker has it."""
    named = _CONFIG_NAME.fullmatch(_normal(name))
    if named and len(raw) <= c.MAX_DOCUMENT_BYTES and Digest.of(raw).encoded != named[1]:
        raise IntegrityError(
            f"{what} names the configuration {shown(name)}, but its digest is {Digest.of(raw)}.",
            hint="Save the image again.",
        )


def _normal(name: str) -> str:
    return name.removeprefix("./")


def _normal_name(name: str) -> str:
    """Return an image's name as docker normalises it, so that each has one form."""
    try:
        return str(parse_repository_tag(name))
    except UsageError:
        return name  # it is in the archive all the same, and can be chosen by its number
