"""Manifests, indexes and configurations: what is read, and that every fault names its field."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import IntegrityError, SaltflatError, UsageError
from converter.image import c_oci as c
from converter.image.documents import pair_layers, parse_config, parse_document
from converter.image.model import Digest, Index, Manifest, Platform

DIGEST = "sha256:" + "1" * 64
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": c.OCI_MANIFEST,
    "config": {"mediaType": c.OCI_CONFIG, "digest": DIGEST, "size": 7},
    "layers": [
        {"mediaType": c.LAYER_GZIP, "digest": DIGEST, "size": 32},
        {"mediaType": c.LAYER_ZSTD, "digest": "sha512:" + "2" * 128, "size": 0},
    ],
}
CONFIG = {
    "os": "linux",
    "architecture": "arm",
    "config": {"Cmd": ["sh"], "Env": None, "User": "", "Labels": {"a": "b"}},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST, DIGEST]},
}
LIST = {
    "schemaVersion": 2,
    "mediaType": c.DOCKER_MANIFEST_LIST,
    "manifests": [
        {
            "mediaType": c.DOCKER_MANIFEST,
            "digest": DIGEST,
            "size": 3,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
        {"mediaType": c.OCI_INDEX, "digest": DIGEST, "size": 3, "platform": {"os": ""}},
    ],
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def parse(document: object, media_type: str | None = None) -> Manifest | Index:
    return parse_document(json.dumps(document).encode(), media_type, what="It")


def changed(document: dict, place: str, value: object) -> dict:
    """Return a copy with the member at `place` ("layers.0.size") replaced, or removed by `...`."""
    copy = deepcopy(document)
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner = copy
    for part in path:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return copy


def test_manifest() -> None:
    manifest = parse(MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.media_type == c.OCI_MANIFEST
    assert manifest.config.digest == Digest("sha256", "1" * 64)
    assert [(layer.media_type, layer.size_bytes) for layer in manifest.layers] == [
        (c.LAYER_GZIP, 32),
        (c.LAYER_ZSTD, 0),
    ]
    assert manifest.layers[1].digest.algorithm == "sha512"


def test_docker_manifest() -> None:
    document = changed(MANIFEST, "mediaType", c.DOCKER_MANIFEST)
    document = changed(document, "config.mediaType", c.DOCKER_CONFIG)
    document = changed(document, "layers.0.mediaType", c.DOCKER_LAYER_GZIP)
    assert isinstance(parse(document, c.DOCKER_MANIFEST), Manifest)


def test_index() -> None:
    index = parse(LIST)
    assert isinstance(index, Index)
    assert [entry.platform for entry in index.manifests] == [Platform("linux", "arm64"), None]


@pytest.mark.parametrize("media_type", [None, "text/plain", c.OCI_MANIFEST])
def test_a_document_that_does_not_name_its_type(media_type: str | None) -> None:
    assert isinstance(parse(changed(MANIFEST, "mediaType", ...), media_type), Manifest)


def test_config() -> None:
    config = parse_config(json.dumps(CONFIG).encode(), what="It")
    assert config.platform == Platform("linux", "arm", "v7")
    assert config.execution == CONFIG["config"]
    assert len(config.diff_ids) == 2
    assert parse_config(json.dumps({**CONFIG, "config": None}).encode(), what="").execution == {}


def test_an_image_without_layers() -> None:
    """As Go writes it: null for an empty list, or nothing at all where it may be left out."""
    for no_ids, no_layers in ((..., None), (None, []), ([], None)):
        config = parse_config(
            json.dumps(changed(CONFIG, "rootfs.diff_ids", no_ids)).encode(), what="It"
        )
        manifest = parse(changed(MANIFEST, "layers", no_layers))
        assert isinstance(manifest, Manifest)
        assert pair_layers(manifest, config, what="It") == ()
        with pytest.raises(IntegrityError, match="has 2 layers, but its configuration names 0"):
            pair_layers(parse(MANIFEST), config, what="It")
    with pytest.raises(IntegrityError, match="rootfs is absent"):
        parse_config(b'{"os": "linux", "architecture": "amd64"}', what="It")
    with pytest.raises(IntegrityError, match="rootfs is absent"):
        parse_config(b"{}", what="It")


def test_layers_and_diff_ids_are_paired() -> None:
    manifest = parse(MANIFEST)
    config = parse_config(json.dumps(CONFIG).encode(), what="It")
    assert isinstance(manifest, Manifest)
    layers = pair_layers(manifest, config, what="It")
    assert [layer.descriptor for layer in layers] == list(manifest.layers)
    short = parse_config(json.dumps(changed(CONFIG, "rootfs.diff_ids.0", ...)).encode(), what="It")
    with pytest.raises(IntegrityError, match="2 layers, but its configuration names 1"):
        pair_layers(manifest, short, what="It")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("schemaVersion", ..., "schemaVersion is absent"),
        ("schemaVersion", 3, "schemaVersion is '3'"),
        ("schemaVersion", 2.0, "schemaVersion is '2.0'"),
        ("mediaType", 7, "mediaType is '7'"),
        ("config", ..., "config is absent"),
        ("config.digest", "sha256:zz", "config.digest is not a digest"),
        ("config.mediaType", None, "config.mediaType is 'null'"),
        ("layers", {}, "layers is an object"),
        ("layers.1", 5, "layers is a list"),
        ("layers.1.size", True, r"layers\[1\].size is 'true'"),
        ("layers.1.size", -1, r"layers\[1\].size is '-1'"),
        ("layers.1.size", 2**63, r"layers\[1\].size is"),
        ("layers.1.size", "5", r"layers\[1\].size is"),
        ("layers.0.digest", "../../etc/passwd", r"layers\[0\].digest is not a digest"),
        ("layers.0.digest", "md5:" + "0" * 32, r"layers\[0\].digest is not a digest"),
        ("layers.0.annotations", {"a": 1}, r"layers\[0\].annotations.a is '1'"),
        ("manifests", [], "an index and an image manifest at once"),
    ],
)
def test_malformed_manifest(place: str, value: object, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        parse(changed(MANIFEST, place, value))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("os", ..., "os is absent"),
        ("architecture", "", "architecture is '\"\"'"),
        ("os", "lin\x1b[31mux", "os is"),
        ("rootfs", ..., "rootfs is absent"),
        ("rootfs.type", "other", "rootfs.type is"),
        ("rootfs.diff_ids", {}, "rootfs.diff_ids is an object"),
        ("rootfs.diff_ids.0", "x", "rootfs.diff_ids is not a digest"),
        ("config", "sh", "config is"),
        ("config.Cmd", "sh", "config.Cmd is"),
        ("config.Env", [1], "config.Env is a list"),
        ("config.User", 0, "config.User is '0'"),
    ],
)
def test_malformed_config(place: str, value: object, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        parse_config(json.dumps(changed(CONFIG, place, value)).encode(), what="It")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion": NaN}',
        b"\xff\xfe{}",
        '{"schemaVersion": 2}'.encode("utf-16"),
        b'{"a": "\\ud800"}',
        b'{"size": ' + b"9" * 5000 + b"}",
        b'{"a": "' + b"x" * c.MAX_DOCUMENT_BYTES + b'"}',
    ],
    ids=lambda raw: f"{raw[:12]!r}",
)
def test_no_json_object(raw: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^It is"):
        parse_document(raw, None, what="It")


def test_declared_and_carried_type_must_agree() -> None:
    with pytest.raises(IntegrityError, match="came as"):
        parse(MANIFEST, c.DOCKER_MANIFEST)
    with pytest.raises(IntegrityError, match="manifests is absent"):
        parse(changed(MANIFEST, "mediaType", ...), c.OCI_INDEX)


@pytest.mark.parametrize(
    ("document", "media_type", "said"),
    [
        (changed(MANIFEST, "config.mediaType", "application/x-chart"), None, "artifact of type"),
        (changed(MANIFEST, "layers.0.mediaType", "text/html"), None, "layer of type"),
        ({"schemaVersion": 1, "fsLayers": []}, None, "schema 1"),
        ({}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (changed(MANIFEST, "mediaType", "application/x-other"), None, "not a container image"),
        ({"schemaVersion": 2}, "text/plain", "not a container image"),
    ],
)
def test_what_is_no_image(document: dict, media_type: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(document, media_type)


def test_a_strangers_text_cannot_write_to_the_terminal() -> None:
    with pytest.raises(UsageError) as caught:
        parse(changed(MANIFEST, "config.mediaType", "\x1b]0;title\x07" + "x" * 5000))
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 300


@given(st.sampled_from([MANIFEST, LIST, CONFIG]), st.data())
def test_any_value_anywhere_is_parsed_or_refused(document: dict, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(sorted(_places(document))))
    raw = json.dumps(changed(document, place, data.draw(ANY_JSON))).encode()
    for attempt in (
        lambda: parse_document(raw, None, what="It"),
        lambda: parse_config(raw, what="It"),
    ):
        with suppress(SaltflatError):
            attempt()


def _places(value: object, prefix: str = "") -> set[str]:
    members = value.items() if isinstance(value, dict) else enumerate(value)
    found = set()
    for key, inner in members:
        found.add(f"{prefix}{key}")
        if isinstance(inner, dict | list):
            found |= _places(inner, f"{prefix}{key}.")
    return found
