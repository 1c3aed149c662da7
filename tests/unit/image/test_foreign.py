"""Layers that may be elsewhere: when another address is asked, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.platform import DEFAULT_PLATFORM
from converter.image.reference import LayoutReference, RegistryReference
from converter.image.source import SourceOptions, open_source
from converter.registry.pace import Pace
from tests.unit.image.samples import Blobs, Document, as_json
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

LAYER = b"a layer that may not be distributed"
OPTIONS = SourceOptions(plain_http=True, retries=0)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def foreign_image(
    *urls: str, media_type: str = c.DOCKER_FOREIGN_LAYER, with_layer: bool = False
) -> tuple[Blobs, Document]:
    """Return an image whose one layer has these addresses, and is there itself if so asked."""
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
    return blobs, blobs.add(as_json(manifest), c.DOCKER_MANIFEST)


def write_layout(folder: Path, *urls: str, **options: Any) -> None:
    """Write such an image into a layout."""
    blobs, manifest = foreign_image(*urls, **options)
    blobs.write_layout(folder, manifest)


def fetch(
    place: Path | ScriptedServer, blobs: Path, *, allowed: bool, options: SourceOptions = OPTIONS
) -> bytes:
    reference = (
        LayoutReference(place)
        if isinstance(place, Path)
        else RegistryReference(place.host, "test", tag="1")
    )
    with open_source(reference, options, foreign_layers=allowed) as source:
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


def test_a_registry_is_asked_first(tmp_path: Path, server: ScriptedServer) -> None:
    with scripted_server() as registry:
        for with_layer in (True, False):
            blobs, manifest = foreign_image(f"http://{server.host}/x", with_layer=with_layer)
            paths = {f"/v2/test/blobs/{digest}": data for digest, data in blobs.items()}
            paths["/v2/test/manifests/1"] = blobs[str(manifest["digest"])]
            registry.answer = partial(_answer, paths)
            server.answer = partial(_answer, {"/x": LAYER})
            store = tmp_path / str(with_layer)
            if not with_layer:
                with pytest.raises(NotFoundError, match="may not be distributed"):
                    fetch(registry, store, allowed=False)
            assert server.requests == []
            assert fetch(registry, store, allowed=True) == LAYER
    assert server.paths() == ["/x"]


def _answer(paths: dict[str, bytes], request: Request) -> Answer:
    body = paths.get(request.path)
    return Answer(404) if body is None else Answer(body=body)


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
    options = replace(OPTIONS, retries=1, pace=Pace(sleep=lambda _: None))  # a short one: again
    with pytest.raises(IntegrityError, match=Digest.of(LAYER).encoded):
        fetch(tmp_path / "a", tmp_path / "blobs", allowed=True, options=options)
    assert not blob_path(tmp_path / "blobs", Digest.of(LAYER)).exists()
