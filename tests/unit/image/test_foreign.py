"""Layers that may be elsewhere: when another address is asked, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.platform import DEFAULT_PLATFORM
from converter.image.reference import LayoutReference
from converter.image.source import SourceOptions, open_source
from tests.unit.image.samples import Blobs, as_json
from tests.unit.registry.scripted_server import Answer, ScriptedServer, scripted_server

LAYER = b"a layer that may not be distributed"
OPTIONS = SourceOptions(plain_http=True, retries=0)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def write_layout(
    folder: Path, *urls: str, media_type: str = c.DOCKER_FOREIGN_LAYER, with_layer: bool = False
) -> None:
    """Write an image whose one layer has these addresses, and is there itself if so asked."""
    blobs = Blobs()
    rootfs = {"type": "layers", "diff_ids": [str(Digest.of(LAYER))]}
    config = as_json({"os": "linux", "architecture": "amd64", "rootfs": rootfs})
    manifest = {
        "schemaVersion": 2,
        "mediaType": c.DOCKER_MANIFEST,
        "config": blobs.add(config, c.DOCKER_CONFIG),
        "layers": [blobs.add(LAYER, media_type, urls=list(urls))],
    }
    if not with_layer:
        del blobs[str(Digest.of(LAYER))]
    blobs.write_layout(folder, blobs.add(as_json(manifest), c.DOCKER_MANIFEST))


def fetch(folder: Path, blobs: Path, *, allowed: bool) -> bytes:
    reference = LayoutReference(folder)
    with open_source(reference, OPTIONS, foreign_layers=allowed) as source:
        layer = source.resolve(DEFAULT_PLATFORM).layers[0].descriptor
        content = source.local_blob(layer)
        if content is not None:
            with content.open() as file:
                return file.read()
        return fetch_blob(source, layer, blobs, ignore).read_bytes()


@pytest.mark.parametrize("media_type", sorted(c.FOREIGN_LAYER_TYPES))
def test_only_on_request(tmp_path: Path, server: ScriptedServer, media_type: str) -> None:
    server.answer = lambda _: Answer(body=LAYER)
    write_layout(tmp_path / "a", f"http://{server.host}/x", media_type=media_type)
    with pytest.raises(NotFoundError, match="may not be distributed") as caught:
        fetch(tmp_path / "a", tmp_path / "blobs", allowed=False)
    assert "--foreign-layers" in str(caught.value.hint)
    assert server.requests == []
    assert fetch(tmp_path / "a", tmp_path / "blobs", allowed=True) == LAYER


def test_what_is_at_hand_is_not_fetched(tmp_path: Path, server: ScriptedServer) -> None:
    write_layout(tmp_path / "a", f"http://{server.host}/x", with_layer=True)
    for allowed in (False, True):
        assert fetch(tmp_path / "a", tmp_path / "blobs", allowed=allowed) == LAYER
    assert server.requests == []


def test_no_other_layer_has_addresses(tmp_path: Path, server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=LAYER)
    for number, (urls, kind) in enumerate(
        [([f"http://{server.host}/x"], c.DOCKER_LAYER_GZIP), ([], c.DOCKER_FOREIGN_LAYER)]
    ):
        folder = tmp_path / str(number)
        write_layout(folder, *urls, media_type=kind)
        with pytest.raises(NotFoundError, match="has no blob"):
            fetch(folder, tmp_path / "blobs", allowed=True)
    assert server.requests == []


def test_addresses_are_tried_in_their_order(tmp_path: Path, server: ScriptedServer) -> None:
    answers = {"/a": Answer(500), "/b": Answer(404), "/c": Answer(body=LAYER)}
    server.answer = lambda request: answers[request.path]
    urls = [f"http://{server.host}/{name}" for name in "abc"]
    write_layout(tmp_path / "a", "ftp://127.0.0.1/x", *urls)
    assert fetch(tmp_path / "a", tmp_path / "blobs", allowed=True) == LAYER
    assert server.paths() == ["/a", "/b", "/c"]
    write_layout(tmp_path / "none", *urls[1::-1])
    with pytest.raises(UnavailableError, match="answered 500"):  # what the last one said
        fetch(tmp_path / "none", tmp_path / "other", allowed=True)


@pytest.mark.parametrize("body", [LAYER[:-1] + b"?", LAYER[:-1], LAYER + b"?"])
def test_what_comes_from_there_is_verified(
    tmp_path: Path, server: ScriptedServer, body: bytes
) -> None:
    server.answer = lambda _: Answer(body=body)
    write_layout(tmp_path / "a", f"http://{server.host}/x")
    with pytest.raises(IntegrityError, match=Digest.of(LAYER).encoded):
        fetch(tmp_path / "a", tmp_path / "blobs", allowed=True)
    assert not blob_path(tmp_path / "blobs", Digest.of(LAYER)).exists()
