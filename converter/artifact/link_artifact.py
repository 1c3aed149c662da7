"""One link as an artifact of its own, found by its tag: what a shared cache is made of."""

from __future__ import annotations

from converter.artifact import c_artifact as c
from converter.artifact.content import document
from converter.artifact.manifest import (
    Artifact,
    Parcel,
    manifest_document,
    parcels_of,
    parse_artifact,
)
from converter.artifact.records import dump_link, parse_link
from converter.artifact.send import Sender
from converter.errors import IntegrityError
from converter.image import c_oci
from converter.registry.artifacts import ArtifactRepository


def link_tag(identity: str) -> str:
    """Return the tag under which the link of that id is."""
    return f"{c.LINK_TAG_PREFIX}{identity}"


def find_link_artifact(repository: ArtifactRepository, identity: str) -> Parcel | None:
    """Return what `repository` has as the link `identity`; None if it has none.

    Raises IntegrityError for an artifact that is damaged or of another link, SaltflatError for a
    newer schema or a codec that this program lacks, and the registry's errors.
    """
    tag = link_tag(identity)
    answer = repository.manifest(tag, accept=(c_oci.OCI_MANIFEST,))
    if answer is None:
        return None
    what = f"{repository.name}:{tag}"
    artifact = parse_artifact(answer.raw, what=what)
    if artifact is None or artifact.artifact_type != c.LINK:
        raise IntegrityError(f"{what} is not a link.", expected=f"an artifact of type {c.LINK}")
    named = f"The record of {what}"
    record = parse_link(document(repository, artifact.config, what=named), what=named)
    if record.link_id != identity:
        raise IntegrityError(
            f"{what} is the link {record.link_id}.",
            expected="the link that its tag names",
            hint="Whoever may push there has put another link in its place.",
        )
    blobs = () if record.empty else artifact.layers
    (parcel,) = parcels_of((record,), blobs, what=what)
    return parcel


def put_link_artifact(repository: ArtifactRepository, sender: Sender, parcel: Parcel) -> None:
    """Put the artifact of a link whose blobs the repository has. Raises the registry's errors."""
    record = parcel.record
    config = sender.document(dump_link(record), c.LINK)
    layers = tuple(blob for blob in (parcel.disk, parcel.state) if blob is not None)
    if not layers:
        # An artifact without blobs has one that says so. (image-spec manifest.md)
        layers = (sender.document(c.EMPTY_CONTENT, c.OCI_EMPTY),)
    manifest = manifest_document(Artifact(c.LINK, config, layers))
    repository.push_manifest(manifest, link_tag(record.link_id))
