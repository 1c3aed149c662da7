"""Manifests, indexes and configurations: bytes in, model values or an error that names the field.

Everything here comes from strangers: the size is bounded before parsing, every field that we use
has its type checked, and what we do not use is ignored, as the specification asks.
"""

from __future__ import annotations

from converter.errors import IntegrityError, UsageError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.json_object import JsonObject, shown
from converter.image.kinds import refuse_artifact, refuse_layer
from converter.image.model import Descriptor, ImageConfig, Index, Layer, Manifest
from converter.image.platform import NAME, Platform

MAX_SIZE_BYTES = 2**63 - 1  # image-spec: size is an int64

# Members of the "config" object that tether relies on; each may be null, as Docker writes it.
_TEXTS = ("User", "WorkingDir", "StopSignal")
_TEXT_LISTS = ("Entrypoint", "Cmd", "Env")


def parse_document(raw: bytes, media_type: str | None, *, what: str) -> Manifest | Index:
    """Read a manifest or an index.

    `media_type` is what the registry or the descriptor said it is, None if nothing; `what` names
    the document in errors. Raises IntegrityError for a malformed or contradictory document and
    UsageError for a kind that is not an image.
    """
    fields = JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES)
    kind = _kind(fields, media_type)
    if kind in c.INDEX_TYPES:
        manifests = fields.children("manifests")
        return Index(kind, tuple(parse_descriptor(entry) for entry in manifests))
    refuse_artifact(fields)
    layers = tuple(parse_descriptor(entry) for entry in fields.children("layers"))
    for layer in layers:
        refuse_layer(layer.media_type, what=what)
    config = fields.child("config")
    return Manifest(kind, parse_descriptor(config), layers)


def parse_config(raw: bytes, *, what: str) -> ImageConfig:
    """Read an image configuration. Raises IntegrityError that names the field."""
    fields = JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES)
    rootfs = fields.child("rootfs")
    if rootfs.text("type") != "layers":
        rootfs.fail("type", 'the text "layers"')
    # docker leaves it out for an image without layers; that there are none is for pair_layers.
    diff_ids = rootfs.optional_texts("diff_ids") or ()
    execution = fields.optional_child("config")
    if execution is not None:
        for name in _TEXTS:
            execution.optional_text(name)
        for name in _TEXT_LISTS:
            execution.optional_texts(name)
    return ImageConfig(
        platform=_platform(fields),
        execution={} if execution is None else execution.members,
        diff_ids=tuple(_digest(text, rootfs, "diff_ids") for text in diff_ids),
    )


def pair_layers(manifest: Manifest, config: ImageConfig, *, what: str) -> tuple[Layer, ...]:
    """Join each layer with its diffID. Raises IntegrityError if their counts differ."""
    if len(manifest.layers) != len(config.diff_ids):
        raise IntegrityError(
            f"{what} has {len(manifest.layers)} layers, "
            f"but its configuration names {len(config.diff_ids)} diff_ids.",
            expected="one diff_id for each layer",
        )
    return tuple(
        Layer(descriptor, diff_id)
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )


def parse_layout_marker(raw: bytes, *, what: str) -> None:
    """Check an `oci-layout` file. Raises IntegrityError, UsageError for a version not known."""
    version = JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES).text(
        "imageLayoutVersion"
    )
    if version != c.LAYOUT_VERSION:
        raise UsageError(
            f"{what} is of layout version {shown(version)}.", expected=c.LAYOUT_VERSION
        )


def _kind(fields: JsonObject, media_type: str | None) -> str:
    """Return the document's media type, by its own word, its carrier's, or else its shape."""
    declared = fields.optional_text("mediaType") or None
    known = c.INDEX_TYPES | c.MANIFEST_TYPES
    if (media_type or declared or "").startswith(c.DOCKER_SCHEMA1_PREFIX) or (
        fields.members.get("schemaVersion") == 1
    ):
        raise UsageError(
            f"{fields.what} is in Docker's schema 1, a format withdrawn in 2017.",
            expected="an OCI or Docker schema 2 manifest",
            hint="Push it again with a current docker or podman, or convert it: "
            "skopeo copy --format v2s2 docker://OLD docker://NEW.",
        )
    if fields.integer("schemaVersion") != 2:
        fields.fail("schemaVersion", "the number 2")
    # A document that is both would mean one thing to us and another to somebody else who checked
    # it by the same digest (CVE-2021-41190).
    index_like, manifest_like = "manifests" in fields.members, "config" in fields.members
    if index_like and (manifest_like or "layers" in fields.members):
        raise IntegrityError(f"{fields.what} is an index and an image manifest at once.")
    if declared is not None and media_type in known and declared != media_type:
        raise IntegrityError(
            f"{fields.what} calls itself {shown(declared)} but came as {media_type}.",
            expected="one media type",
        )
    kind = declared or media_type
    if kind not in known:
        if declared is not None or not (index_like or manifest_like):
            raise UsageError(
                f"{fields.what} is of type {shown(kind or 'unknown')}, not a container image.",
                expected="an OCI or Docker schema 2 manifest or index",
            )
        # Plain web servers send a general Content-Type, and OCI 1.0 documents need not name theirs.
        kind = c.OCI_INDEX if index_like else c.OCI_MANIFEST
    assert kind is not None
    if (kind in c.INDEX_TYPES) != index_like:
        fields.fail("manifests" if kind in c.INDEX_TYPES else "config", f"one, as in {kind}")
    return kind


def parse_descriptor(fields: JsonObject) -> Descriptor:
    """Read a descriptor. Raises IntegrityError that names the field. (image-spec descriptor.md)"""
    size_bytes = fields.integer("size")
    if not 0 <= size_bytes <= MAX_SIZE_BYTES:
        fields.fail("size", "a size in bytes")
    # Entries of things that are no images (nested indexes, signatures) have empty platforms.
    platform = fields.optional_child("platform")
    if platform is not None and not (platform.members.get("os")):
        platform = None
    annotations = fields.optional_child("annotations")
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=_digest(fields.text("digest"), fields, "digest"),
        size_bytes=size_bytes,
        annotations={} if annotations is None else annotations.all_texts(),
        platform=None if platform is None else _platform(platform),
        urls=tuple(fields.optional_texts("urls") or ()),
    )


def _platform(fields: JsonObject) -> Platform:
    os, architecture = fields.text("os"), fields.text("architecture")
    variant = fields.optional_text("variant") or ""
    for name, value in (("os", os), ("architecture", architecture), ("variant", variant)):
        if value and not NAME.fullmatch(value):
            fields.fail(name, "a name of letters, digits, dots and dashes")
    return Platform.normalised(os, architecture, variant)


def _digest(text: str, fields: JsonObject, name: str) -> Digest:
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise IntegrityError(
            f"{fields.what}: {fields.path(name)} is not a digest: {shown(text)}.",
            expected=str(error),
        ) from None
