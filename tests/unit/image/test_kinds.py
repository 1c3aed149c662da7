"""What is not an image is refused by what it is, so that a person knows what they named."""

from __future__ import annotations

import pytest

from converter.errors import UsageError
from converter.image import c_oci as c
from converter.image.documents import parse_document
from converter.image.model import Manifest
from tests.unit.image.samples import Document, as_json, descriptor

COSIGN_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def manifest(config_type: str, *layer_types: str, **more: object) -> Document:
    """Return a manifest with a configuration and layers of these types."""
    return {
        "schemaVersion": 2,
        "mediaType": c.OCI_MANIFEST,
        "config": descriptor(b"{}", config_type),
        "layers": [descriptor(b"layer", layer_type) for layer_type in layer_types],
        **more,
    }


def refusal(document: Document, media_type: str | None = None) -> UsageError:
    """Return the error for a document that is not an image."""
    with pytest.raises(UsageError) as caught:
        parse_document(as_json(document), media_type, what="It")
    assert caught.value.exit_code == 2
    return caught.value


# Manifests as the projects' tools write them, cut to what tells them apart.
ARTIFACTS = [
    (
        manifest(
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ),
        "a Helm chart",
    ),
    (manifest("application/vnd.wasm.config.v0+json", "application/wasm"), "a WebAssembly module"),
    (manifest(c.OCI_CONFIG, COSIGN_LAYER), "a cosign signature"),
    (
        manifest(
            c.EMPTY,
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            artifactType="application/vnd.dev.sigstore.bundle.v0.3+json",
        ),
        "a sigstore signature",
    ),
    (manifest(c.OCI_CONFIG, "application/vnd.in-toto+json"), "an in-toto attestation"),
    (manifest(c.EMPTY, "application/spdx+json"), "a list of contents"),
    (
        manifest("application/vnd.unknown.config.v1+json", "text/plain"),
        "files that oras pushed",
    ),
    (manifest("application/vnd.buildkit.cacheconfig.v0", c.LAYER_GZIP), "a build cache"),
    (manifest("application/vnd.docker.plugin.v1+json", c.DOCKER_LAYER_GZIP), "a plugin"),
]


@pytest.mark.parametrize(("document", "said"), ARTIFACTS, ids=[said for _, said in ARTIFACTS])
def test_known_artifacts_are_called_by_their_name(document: Document, said: str) -> None:
    error = refusal(document)
    assert error.what.startswith(f"It is {said}")
    assert error.what.endswith("not a container image.")
    assert error.hint


def test_unknown_artifacts_are_called_by_their_type() -> None:
    assert "'application/x-new'" in refusal(manifest("application/x-new", c.LAYER_GZIP)).what
    with_type = manifest(c.OCI_CONFIG, c.LAYER_GZIP, artifactType="application/x-new")
    assert "'application/x-new'" in refusal(with_type).what
    assert "'x/y'" in refusal(manifest(c.EMPTY, "x/y")).what
    assert c.EMPTY in refusal(manifest(c.EMPTY)).what
    assert c.LAYER_GZIP in refusal(manifest(c.EMPTY, c.LAYER_GZIP)).what


@pytest.mark.parametrize("artifact_type", [None, "", c.OCI_CONFIG, c.DOCKER_CONFIG])
def test_an_image_may_say_that_it_is_one(artifact_type: str | None) -> None:
    document = manifest(c.OCI_CONFIG, c.LAYER_GZIP, artifactType=artifact_type)
    assert isinstance(parse_document(as_json(document), None, what="It"), Manifest)


def test_layers_of_every_kind_that_can_be_unpacked() -> None:
    document = manifest(c.DOCKER_CONFIG, *sorted(c.LAYER_TYPES))
    parsed = parse_document(as_json(document), None, what="It")
    assert isinstance(parsed, Manifest)
    assert {layer.media_type for layer in parsed.layers} == c.LAYER_TYPES


def test_addresses_of_foreign_layers_are_kept() -> None:
    urls = ["https://example.org/a", "https://example.net/b"]
    document = manifest(c.OCI_CONFIG)
    document["layers"] = [descriptor(b"layer", FOREIGN, urls=urls)]
    parsed = parse_document(as_json(document), None, what="It")
    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].urls == tuple(urls)


def test_encrypted_layers() -> None:
    error = refusal(manifest(c.OCI_CONFIG, c.LAYER_GZIP, c.LAYER_GZIP + "+encrypted"))
    assert "has an encrypted layer" in error.what
    assert "--decryption-key" in str(error.hint)
    assert (
        "of type 'application/x-layer'"
        in refusal(manifest(c.OCI_CONFIG, "application/x-layer")).what
    )


SCHEMA1: Document = {
    "schemaVersion": 1,
    "name": "library/debian",
    "tag": "7",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": "sha256:" + "0" * 64}],
    "history": [{"v1Compatibility": "{}"}],
}
SIGNED: Document = {**SCHEMA1, "signatures": [{"header": {"alg": "ES256"}, "signature": "x"}]}


@pytest.mark.parametrize("document", [SCHEMA1, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "application/json",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ],
)
def test_schema_1(document: Document, media_type: str | None) -> None:
    error = refusal(document, media_type)
    assert "schema 1" in error.what
    assert "skopeo copy" in str(error.hint)
