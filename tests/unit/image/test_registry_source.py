"""Images from a registry: what is verified, and what a mirror may do, against scripted servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, SaltflatError
from converter.events import ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.partial import partial_path
from converter.image.platform import Platform
from converter.image.reference import RegistryReference
from converter.image.source import SourceOptions, open_source
from converter.registry.options import Mirror
from converter.registry.pace import Pace
from tests.unit.image.samples import as_json
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

AMD64 = Platform("linux", "amd64")
PLAIN = b"x" * 10_000


def image(algorithm: str = "sha256") -> dict[str, bytes]:
    """Return an image's documents and its layer by digest, the manifest under "manifest" too."""
    config = as_json(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(PLAIN))]},
        }
    )

    def described(content: bytes, media_type: str) -> dict[str, object]:
        digest = str(Digest.of(content, algorithm))
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    manifest = as_json(
        {
            "schemaVersion": 2,
            "mediaType": c.OCI_MANIFEST,
            "config": described(config, c.OCI_CONFIG),
            "layers": [described(PLAIN, c.LAYER_TAR)],
        }
    )
    digests = {str(Digest.of(content, algorithm)): content for content in (config, PLAIN, manifest)}
    return {**digests, "manifest": manifest}


def serve(server: ScriptedServer, contents: Mapping[str, bytes]) -> None:
    def answer(request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        content = contents.get("manifest" if name == "1" else name)
        if content is None:
            return Answer(404)
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if not start:
            return Answer(body=content)
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Answer(206, content[start:], headers)

    server.answer = answer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def mirror() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def pull(
    server: ScriptedServer,
    folder: Path,
    *mirrors: ScriptedServer,
    digest: str | None = None,
) -> Path:
    parsed = None if digest is None else Digest.parse(digest)
    tag = "1" if digest is None else None
    options = SourceOptions(
        plain_http=True,
        retries=1,
        pace=Pace(sleep=lambda _: None),
        mirrors=tuple(Mirror(other.host) for other in mirrors),
    )
    with open_source(RegistryReference(server.host, "a", tag, parsed), options) as source:
        (layer,) = source.resolve(AMD64).layers
        return fetch_blob(source, layer.descriptor, folder, ignore)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_both_digests(server: ScriptedServer, tmp_path: Path, algorithm: str) -> None:
    contents = image(algorithm)
    serve(server, contents)
    for digest in (None, str(Digest.of(contents["manifest"], algorithm))):
        path = pull(server, tmp_path / str(digest), digest=digest)
        assert path.parent.name == algorithm
        assert path.name == hashlib.new(algorithm, PLAIN).hexdigest()
        assert path.read_bytes() == PLAIN
    flipped = {**contents, f"{algorithm}:{path.name}": PLAIN[:-1] + b"y"}
    serve(server, flipped)
    with pytest.raises(IntegrityError):
        pull(server, tmp_path / "wrong")
    assert not [path for path in (tmp_path / "wrong").rglob("*") if path.is_file()]


@pytest.mark.parametrize("wrong", range(3))
def test_each_document_and_blob_of_a_mirror_is_verified(
    server: ScriptedServer, mirror: ScriptedServer, tmp_path: Path, wrong: int
) -> None:
    contents = image()
    serve(server, contents)
    name = list(contents)[wrong]
    serve(mirror, {**contents, name: contents[name][:-1] + b"?"})
    manifest = str(Digest.of(contents["manifest"]))
    assert pull(server, tmp_path, mirror, digest=manifest).read_bytes() == PLAIN
    asked = [request.path.rpartition("/")[2] for request in server.requests]
    assert asked == [name]  # of the registry only what the mirror had wrong


def test_wrong_pieces_are_asked_for_once_more_as_one(
    server: ScriptedServer, tmp_path: Path
) -> None:
    contents = image()
    serve(server, contents)
    right = server.answer
    starts: list[int] = []

    def answer(request: Request) -> Answer:
        if str(Digest.of(PLAIN)) not in request.path:
            return right(request)
        starts.append(int(request.headers.get("range", "bytes=0-")[6:-1]))
        return right(request) if len(starts) > 1 else Answer(body=b"y" + PLAIN[1:], cut_bytes=1000)

    server.answer = answer
    assert pull(server, tmp_path).read_bytes() == PLAIN
    assert starts == [0, len(PLAIN) - 1000, 0]


def test_a_wrong_beginning_is_thrown_away(server: ScriptedServer, tmp_path: Path) -> None:
    serve(server, image())
    partial = partial_path(blob_path(tmp_path, Digest.of(PLAIN)))
    partial.parent.mkdir()
    partial.write_bytes(b"y" * 777)
    assert pull(server, tmp_path).read_bytes() == PLAIN
    ranges = [request.headers.get("range") for request in server.requests[-2:]]
    assert ranges == ["bytes=777-", None]


def test_a_mirror_that_lacks_something(
    server: ScriptedServer, mirror: ScriptedServer, tmp_path: Path
) -> None:
    serve(server, image())
    serve(mirror, {})
    pull(server, tmp_path, mirror)
    assert len(mirror.requests) == 3  # it is asked for each: it may have the next one


def test_a_mirror_that_does_not_answer_is_left_alone(
    server: ScriptedServer, mirror: ScriptedServer, tmp_path: Path
) -> None:
    serve(server, image())
    mirror.answer = lambda _: Answer(503)
    pull(server, tmp_path, mirror)
    assert len(mirror.requests) == 2  # with its one retry


def test_the_error_is_the_registrys(
    server: ScriptedServer, mirror: ScriptedServer, tmp_path: Path
) -> None:
    mirror.answer = lambda _: Answer(418)
    with pytest.raises(NotFoundError) as caught:
        pull(server, tmp_path, mirror)
    assert server.host in caught.value.what
    assert f"mirror {mirror.host}: {mirror.host} refused" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("h", Mirror("h")),
        ("h:5000/a/b", Mirror("h:5000", "a/b")),
        ("h/a/", Mirror("h", "a")),
        ("http://h/a", Mirror("h", "a", True)),
        ("https://h", Mirror("h", "", False)),
    ],
)
def test_mirrors_are_written(text: str, mirror: Mirror) -> None:
    assert Mirror.parse(text) == mirror
    assert str(mirror) == text.rpartition("//")[2].rstrip("/")


@pytest.mark.parametrize("text", ["", "/a", "http://", "u:p@h/a", "h?x", "h a", "h\n", "ftp://h"])
def test_mirrors_that_are_none(text: str) -> None:
    with pytest.raises(SaltflatError, match="not a mirror"):
        Mirror.parse(text)


def test_documents_that_are_known_are_not_asked_for_again(
    server: ScriptedServer, tmp_path: Path
) -> None:
    contents = image()
    serve(server, contents)
    config = next(content for content in contents.values() if b"rootfs" in content)
    digest = Digest.of(config)
    path = blob_path(tmp_path, digest)
    path.parent.mkdir()
    options = SourceOptions(plain_http=True)
    for known, asked in (
        (b"", True),
        (config[:-1], True),  # damaged: as if it were not there
        (config + b" ", True),
        (config, False),
    ):
        path.write_bytes(known)
        server.requests.clear()
        reference = RegistryReference(server.host, "a", "1")
        with open_source(reference, options, known=tmp_path) as source:
            assert source.resolve(AMD64).digest == Digest.of(contents["manifest"])
        assert server.paths()[0].endswith("/manifests/1")
        assert any(digest.encoded in each for each in server.paths()[1:]) == asked
