"""The manifests of our artifacts: values out of bytes, and documents out of values. Pure.

An artifact is an OCI image manifest (OCI image specification 1.1, manifest.md, "Guidelines for
Artifact Usage") whose configuration is our record. What a blob is, its annotations say again, so
that who lists or mirrors artifacts need not read the record; a receiver demands that both agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec
from converter.artifact.records import ChainRecord
from converter.errors import IntegrityError
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.documents import parse_descriptor
from converter.image.json_object import JsonObject, shown
from converter.image.model import Descriptor
from converter.store.links import LinkRecord


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact's manifest: `layers` are its blobs but for the configuration, in their order."""

    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A link as an artifact has it: its record, and where disk and state are; neither if empty."""

    record: LinkRecord
    disk: Descriptor | None = None
    state: Descriptor | None = None

    @property
    def codec(self) -> Codec:
        """The transport form of the disk. Raises SaltflatError for one that we lack."""
        assert self.disk is not None, "only disks have a codec"
        return Codec.parse(self.disk.annotations.get(c.ANNOTATION_CODEC, ""))


def manifest_document(artifact: Artifact) -> dict[str, object]:
    """Return the manifest as JSON values; `converter.registry.artifacts` makes bytes of them."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": c_oci.OCI_MANIFEST,
        "artifactType": artifact.artifact_type,
        "config": descriptor_document(artifact.config),
        "layers": [descriptor_document(layer) for layer in artifact.layers],
    }
    if artifact.subject is not None:
        document["subject"] = descriptor_document(artifact.subject)
    if artifact.annotations:
        document["annotations"] = dict(artifact.annotations)
    return document


def descriptor_document(descriptor: Descriptor) -> dict[str, object]:
    """Return a descriptor as JSON values."""
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size_bytes,
    }
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return document


def parse_artifact(raw: bytes, *, what: str) -> Artifact | None:
    """Read a manifest of ours; None if it is that of something else, such as an image.

    Raises IntegrityError that names the field.
    """
    fields = JsonObject.parse(raw, what=what, limit=c_oci.MAX_DOCUMENT_BYTES)
    config = fields.optional_child("config")
    if config is None or "manifests" in fields.members:
        return None
    artifact_type = fields.optional_text("artifactType") or config.text("mediaType")
    if artifact_type not in (c.CHAIN, c.LINK, c.BOOT):
        return None
    subject = fields.optional_child("subject")
    annotations = fields.optional_child("annotations")
    artifact = Artifact(
        artifact_type,
        parse_descriptor(config),
        tuple(parse_descriptor(layer) for layer in fields.children("layers")),
        None if subject is None else parse_descriptor(subject),
        {} if annotations is None else annotations.all_texts(),
    )
    if artifact.config.media_type != artifact_type:
        config.fail("mediaType", artifact_type)
    return artifact


def blob_annotations(record: LinkRecord, codec: Codec, *, state: bool) -> dict[str, str]:
    """Return what the annotations of a link's disk, or of its state, must be."""
    name = f"{record.link_id}.state" if state else f"{record.link_id}.vmdk{codec.suffix}"
    return {
        c.ANNOTATION_TITLE: name,
        c.ANNOTATION_CODEC: codec.value,
        c.ANNOTATION_SIZE: str(record.state_size_bytes if state else record.size_bytes),
        c.ANNOTATION_SHA256: record.state_sha256 if state else record.sha256,
        c.ANNOTATION_LINK_ID: record.link_id,
        c.ANNOTATION_PARENT: record.parent,
        c.ANNOTATION_DIFF_IDS: ",".join(record.diff_ids),
        c.ANNOTATION_PRODUCER: record.producer,
    }


def disk_descriptor(
    record: LinkRecord, codec: Codec, *, digest: Digest, size_bytes: int
) -> Descriptor:
    """Return the descriptor of a link's disk in a transport form of that digest and size."""
    annotations = blob_annotations(record, codec, state=False)
    return Descriptor(codec.disk_type, digest, size_bytes, annotations)


def state_descriptor(record: LinkRecord) -> Descriptor:
    """Return the descriptor of a link's state, which travels as it is: zstd is in it."""
    annotations = blob_annotations(record, Codec.NONE, state=True)
    digest = Digest("sha256", record.state_sha256)
    return Descriptor(c.STATE, digest, record.state_size_bytes, annotations)


def chain_annotations(record: ChainRecord) -> dict[str, str]:
    """Return the annotations by which one chooses among the chains of an image."""
    return {
        c.ANNOTATION_TOP: record.top,
        c.ANNOTATION_CAPACITY: str(record.parameters.capacity_bytes),
        c.ANNOTATION_JOURNAL: "true" if record.parameters.journal else "false",
        c.ANNOTATION_WRITER: str(record.parameters.writer_version),
        c.ANNOTATION_LINKS: str(len(record.disks)),
        c.ANNOTATION_PLATFORM: str(record.platform),
    }


def parcels_of(
    records: Sequence[LinkRecord], blobs: Sequence[Descriptor], *, what: str
) -> tuple[Parcel, ...]:
    """Join records with their blobs: disk and state of each link that has them, in order.

    Raises IntegrityError where annotations and record disagree, SaltflatError for a codec that
    this program lacks.
    """
    rest = iter(blobs)
    parcels = []
    for record in records:
        if record.empty:
            parcels.append(Parcel(record))
            continue
        disk, state = next(rest, None), next(rest, None)
        if disk is None or state is None:
            raise IntegrityError(f"{what} has no blobs for the link {record.link_id}.")
        parcel = Parcel(record, disk, state)
        for blob, codec, media_type in (
            (disk, parcel.codec, parcel.codec.disk_type),
            (state, Codec.NONE, c.STATE),
        ):
            wanted = blob_annotations(record, codec, state=blob is state)
            differing = [name for name in wanted if blob.annotations.get(name) != wanted[name]]
            if differing or blob.media_type != media_type:
                name = differing[0] if differing else "mediaType"
                have = blob.annotations.get(name, "") if differing else blob.media_type
                raise IntegrityError(
                    f"{what}: {name} of the blob {blob.digest} is {shown(have)}.",
                    expected=wanted[name] if differing else media_type,
                )
        if (state.digest.encoded, state.size_bytes) != (
            record.state_sha256,
            record.state_size_bytes,
        ):
            raise IntegrityError(
                f"{what}: the state of {record.link_id} is another one than its record's."
            )
        parcels.append(parcel)
    if next(rest, None) is not None:
        raise IntegrityError(f"{what} has more blobs than its record has links.")
    return tuple(parcels)
