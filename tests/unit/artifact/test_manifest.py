"""Manifests of artifacts, and how blobs and records are joined."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec
from converter.artifact.manifest import (
    Artifact,
    chain_annotations,
    manifest_document,
    parcels_of,
    parse_artifact,
)
from converter.artifact.referrers import referrers_tag
from converter.artifact.target import parse_target
from converter.errors import IntegrityError, SaltflatError, UsageError
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.registry.artifacts import document_bytes, manifest_digest
from tests.unit.artifact.samples import chain, link, parcel
from tests.unit.image.samples import Blobs

CONFIG = Descriptor(c.CHAIN, Digest.of(b"config"), 6)
SUBJECT = Descriptor(c_oci.OCI_MANIFEST, Digest.of(b"image"), 5)


def test_an_artifact_comes_back() -> None:
    record = chain("one", "two")
    blobs = [parcel(one, Codec.GZIP) for one in record.links]
    layers = tuple(blob for one in blobs for blob in (one.disk, one.state) if blob)
    artifact = Artifact(c.CHAIN, CONFIG, layers, SUBJECT, chain_annotations(record))
    raw = document_bytes(manifest_document(artifact))
    assert parse_artifact(raw, what="it") == artifact
    assert manifest_digest(manifest_document(artifact)) == str(Digest.of(raw))
    assert parcels_of(record.links, layers, what="it") == tuple(blobs)


def test_what_is_not_ours_is_nothing() -> None:
    blobs = Blobs()
    image = blobs[str(blobs.image(b"layer")["digest"])]
    index = blobs[str(blobs.index()["digest"])]
    foreign = manifest_document(Artifact("application/vnd.example+json", CONFIG, ()))
    for raw in (image, index, json.dumps(foreign).encode()):
        assert parse_artifact(raw, what="it") is None


def test_the_artifact_type_may_be_told_by_the_configuration_alone() -> None:
    document = manifest_document(Artifact(c.CHAIN, CONFIG, (), SUBJECT))
    del document["artifactType"]
    found = parse_artifact(json.dumps(document).encode(), what="it")
    assert found is not None
    assert found.artifact_type == c.CHAIN


def test_type_and_configuration_that_contradict_each_other() -> None:
    document = manifest_document(Artifact(c.LINK, CONFIG, (), SUBJECT))
    with pytest.raises(IntegrityError):
        parse_artifact(json.dumps(document).encode(), what="it")


@pytest.mark.parametrize("name", [c.ANNOTATION_PARENT, c.ANNOTATION_SHA256, c.ANNOTATION_TITLE])
@pytest.mark.parametrize("which", [0, 1])
def test_annotations_and_record_must_agree(name: str, which: int) -> None:
    record = link("a" * 64, "layer")
    whole = parcel(record)
    assert whole.disk is not None
    assert whole.state is not None
    blobs = [whole.disk, whole.state]
    for text in ("other", None):
        notes = {**blobs[which].annotations, name: text}
        lying = [*blobs]
        kept = {key: note for key, note in notes.items() if note is not None}
        lying[which] = replace(blobs[which], annotations=kept)
        with pytest.raises(IntegrityError, match=name):
            parcels_of((record,), lying, what="it")


def test_blobs_that_are_too_few_too_many_or_in_another_order() -> None:
    record = link("", "layer")
    whole = parcel(record)
    assert whole.disk is not None
    assert whole.state is not None
    blobs = (whole.disk, whole.state)
    for wrong in ((), blobs[:1], blobs[::-1], blobs * 2):
        with pytest.raises((IntegrityError, SaltflatError)):
            parcels_of((record,), wrong, what="it")


def test_a_codec_that_is_not_known_is_no_damage() -> None:
    record = link("", "layer")
    whole = parcel(record)
    assert whole.disk is not None
    assert whole.state is not None
    notes = {**whole.disk.annotations, c.ANNOTATION_CODEC: "br"}
    with pytest.raises(SaltflatError, match="compressed by 'br'") as caught:
        parcels_of((record,), (replace(whole.disk, annotations=notes), whole.state), what="it")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        ("sha256:" + "ab" * 32, "sha256-" + "ab" * 32),
        ("sha512:" + "ab" * 64, "sha512-" + "ab" * 32),  # tags have at most 128 characters
    ],
)
def test_the_tag_of_the_referrers(digest: str, tag: str) -> None:
    assert referrers_tag(Digest.parse(digest)) == tag


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("localhost:5000/app", "app", None),
        ("localhost:5000/app:1", "app", "1"),
        ("docker://registry.example/a/b:c", "a/b", "c"),
        ("registry.example/a/b", "a/b", None),
        ("app", "library/app", None),
    ],
)
def test_a_target_has_a_tag_only_if_it_was_named(
    text: str, repository: str, tag: str | None
) -> None:
    target = parse_target(text)
    assert (target.repository, target.tag) == (repository, tag)


@pytest.mark.parametrize(
    "text", ["./bundle", "oci:dir", f"example.org/app@sha256:{'0' * 64}", "example.org/App"]
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)
