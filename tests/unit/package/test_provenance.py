"""The provenance statement, held against the rules of in-toto and SLSA and against itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from converter.image.digest import Digest
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.resolve import Root, resolve_image
from converter.package.provenance import (
    CodecUsed,
    ExportMade,
    LinkMade,
    Subject,
    encode_provenance,
)
from converter.vmdk.compression import DEFAULT, best
from tests.unit.image.samples import Blobs

DISKS = (Subject("b.vmdk", "22" * 32), Subject("a.vmdk", "11" * 32))
LAYERS = (b"base", b"app")
DIFF_IDS = tuple(str(Digest.of(layer)) for layer in LAYERS)
MADE = ExportMade(
    kind="stream",
    capacity_bytes=16 << 30,
    grain_bytes=64 << 10,
    journal=True,
    writer_version=4,
    links=(LinkMade("33" * 32, DIFF_IDS[:1]), LinkMade("44" * 32, DIFF_IDS[1:])),
    codec=CodecUsed("zlib", "1.2.13", 6),
    options={"firmware": "efi"},
)


def image(reference: str = "registry.example/team/app:1") -> Image:
    blobs = Blobs()
    entry = blobs.image(*LAYERS)
    digest = Digest.parse(str(entry["digest"]))
    root = Root(blobs[str(digest)], digest, str(entry["mediaType"]))
    return resolve_image(reference, root, Platform.parse("linux/amd64"), blobs.read)


def statement(made: ExportMade = MADE, of: Image | None = None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_provenance(DISKS, of or image(), made))
    return document


def test_it_is_a_statement_with_a_provenance() -> None:
    document = statement()
    # in-toto attestation v1, statement.md: these four and nothing else.
    assert sorted(document) == ["_type", "predicate", "predicateType", "subject"]
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [
        {"name": "b.vmdk", "digest": {"sha256": "22" * 32}},
        {"name": "a.vmdk", "digest": {"sha256": "11" * 32}},
    ]
    # SLSA provenance v1, "Schema": what is required is there, what would need a clock is not.
    predicate = document["predicate"]
    assert sorted(predicate) == ["buildDefinition", "runDetails"]
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    assert {"buildType", "externalParameters"} <= definition.keys()
    assert sorted(run) == ["builder"]
    for uri in (definition["buildType"], run["builder"]["id"]):
        assert re.fullmatch(r"urn:[a-z0-9][a-z0-9-]{0,31}:[a-z0-9:]+", uri)


def test_every_choice_and_every_material_is_told() -> None:
    found = image()
    definition = statement(of=found)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "source": "registry.example/team/app:1",
        "platform": "linux/amd64",
        "type": "stream",
        "capacityBytes": 17179869184,
        "grainBytes": 65536,
        "journal": True,
        "links": [
            {"id": "33" * 32, "layers": [DIFF_IDS[0]]},
            {"id": "44" * 32, "layers": [DIFF_IDS[1]]},
        ],
        "codec": {"library": "zlib", "version": "1.2.13", "level": 6},
        "options": {"firmware": "efi"},
    }
    assert definition["internalParameters"] == {"writerVersion": 4}
    materials = definition["resolvedDependencies"]
    assert [each["name"] for each in materials] == ["manifest", "config", "layer 1/2", "layer 2/2"]
    assert materials[0]["uri"] == "docker://registry.example/team/app:1"
    assert materials[0]["digest"] == {"sha256": Digest.of(found.manifest_raw).encoded}
    assert materials[1]["digest"] == {"sha256": Digest.of(found.config_raw).encoded}
    assert [each["digest"]["sha256"] for each in materials[2:]] == [
        Digest.of(layer).encoded for layer in LAYERS
    ]
    assert [each["annotations"]["diffId"] for each in materials[2:]] == list(DIFF_IDS)
    # in-toto attestation v1, resource_descriptor.md: no other fields than these.
    allowed = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert all(each.keys() <= allowed for each in materials)


def test_the_form_is_canonical() -> None:
    raw = encode_provenance(DISKS, image(), MADE)
    assert raw == encode_provenance(DISKS, image(), MADE)
    again = json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert raw == again.encode("ascii") + b"\n"


def test_what_is_not_compressed_has_no_codec() -> None:
    parameters = statement(replace(MADE, codec=None))["predicate"]["buildDefinition"]
    assert "codec" not in parameters["externalParameters"]


@pytest.mark.parametrize(
    ("reference", "uri"),
    [
        ("docker.io/library/debian:12", "docker://docker.io/library/debian:12"),
        ("oci:/srv/a b:1", "oci:/srv/a%20b:1"),
        ("oci-archive:-", "oci-archive:-"),
        ("docker-archive:/é#?%.tar", "docker-archive:/%C3%A9%23%3F%25.tar"),
        ("oci:/not\udcffutf8", "oci:/not%ED%B3%BFutf8"),
    ],
)
def test_a_reference_becomes_a_uri(reference: str, uri: str) -> None:
    definition = statement(of=image(reference))["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["source"] == reference
    found = definition["resolvedDependencies"][0]["uri"]
    assert found == uri
    assert urlsplit(found).scheme


def test_a_codec_knows_its_version() -> None:
    for codec in (DEFAULT, best()):
        assert re.fullmatch(r"\d+(\.\d+)+.*", codec.version)
