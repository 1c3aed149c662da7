"""A repository for artifacts: what oras asks through our client, and what answers mean."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.errors import AuthError, SaltflatError, UnavailableError
from converter.registry.artifacts import ArtifactRepository, document_bytes, manifest_digest
from converter.registry.client import RegistryClient, RegistryOptions
from converter.registry.pace import Pace
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

CONTENT = b"content" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# oras takes a first component with a dot or a colon for a host.
REPOSITORY = "team.example/app"
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": MANIFEST_TYPE,
    "config": {"mediaType": "a/b", "digest": DIGEST, "size": len(CONTENT)},
    "layers": [],
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def repository(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArtifactRepository]:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = RegistryOptions(plain_http=True, pace=Pace(sleep=lambda _seconds: None))
    with RegistryClient(server.host, options) as client:
        yield ArtifactRepository(client, REPOSITORY)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedRandom]:
    with open(tmp_path / "content", "wb+") as opened:
        opened.write(CONTENT)
        (tmp_path / "content").unlink()  # it need not have a name
        yield opened


def takes_uploads(request: Request) -> Answer:
    """Be a registry that has nothing and takes everything."""
    if request.method == "HEAD":
        return Answer(404)
    if request.method == "POST":
        return Answer(202, headers={"Location": "/upload/here?state=1"})
    return Answer(201)


def asked(server: ScriptedServer) -> list[str]:
    return [f"{request.method} {request.path}" for request in server.requests]


def test_a_blob_is_sent_if_it_is_missing(
    server: ScriptedServer, repository: ArtifactRepository, file: io.BufferedRandom
) -> None:
    server.answer = takes_uploads
    sent: list[int] = []
    size = len(CONTENT)
    assert repository.push_blob(file, digest=DIGEST, size_bytes=size, watch=sent.append)
    assert asked(server) == [
        f"HEAD /v2/{REPOSITORY}/blobs/{DIGEST}",
        f"POST /v2/{REPOSITORY}/blobs/uploads/",
        f"PUT /upload/here?state=1&digest={DIGEST.replace(':', '%3A')}",
    ]
    assert server.requests[2].body == CONTENT
    assert sent[-1] == size


def test_a_blob_that_is_there_is_not_sent(
    server: ScriptedServer, repository: ArtifactRepository, file: io.BufferedRandom
) -> None:
    server.answer = lambda _request: Answer(200)
    assert not repository.push_blob(file, digest=DIGEST, size_bytes=len(CONTENT))
    assert repository.has_blob(DIGEST)
    assert asked(server) == [f"HEAD /v2/{REPOSITORY}/blobs/{DIGEST}"] * 2


def test_an_upload_that_breaks_begins_anew(
    server: ScriptedServer, repository: ArtifactRepository, file: io.BufferedRandom
) -> None:
    def fails_once(request: Request) -> Answer:
        puts = sum(one.method == "PUT" for one in server.requests)
        return Answer(503) if request.method == "PUT" and puts == 1 else takes_uploads(request)

    server.answer = fails_once
    assert repository.push_blob(file, digest=DIGEST, size_bytes=len(CONTENT))
    bodies = [request.body for request in server.requests if request.method == "PUT"]
    assert bodies == [CONTENT, CONTENT]


def test_who_watches_may_end_an_upload(
    server: ScriptedServer, repository: ArtifactRepository, file: io.BufferedRandom
) -> None:
    server.answer = takes_uploads

    def stop(_sent_bytes: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        repository.push_blob(file, digest=DIGEST, size_bytes=len(CONTENT), watch=stop)


@pytest.mark.parametrize("identifier", ["tag", DIGEST])
@pytest.mark.parametrize("subject", [None, DIGEST])
def test_a_manifest_is_put_as_it_was_hashed(
    server: ScriptedServer, repository: ArtifactRepository, identifier: str, subject: str | None
) -> None:
    headers = {} if subject is None else {"OCI-Subject": subject}
    server.answer = lambda _request: Answer(201, headers=headers)
    assert repository.push_manifest(MANIFEST, identifier) is (subject is not None)
    (request,) = server.requests
    assert (request.method, request.path) == ("PUT", f"/v2/{REPOSITORY}/manifests/{identifier}")
    assert request.headers["content-type"] == MANIFEST_TYPE
    assert f"sha256:{hashlib.sha256(request.body).hexdigest()}" == manifest_digest(MANIFEST)
    assert json.loads(request.body) == MANIFEST


def test_an_index_has_its_own_type(server: ScriptedServer, repository: ArtifactRepository) -> None:
    server.answer = lambda _request: Answer(201)
    index = {"schemaVersion": 2, "manifests": []}
    repository.push_index(index, INDEX_TYPE, "sha256-0")
    (request,) = server.requests
    assert (request.path, request.body) == (
        f"/v2/{REPOSITORY}/manifests/sha256-0",
        document_bytes(index),
    )
    assert request.headers["content-type"] == INDEX_TYPE


def test_what_is_not_there(server: ScriptedServer, repository: ArtifactRepository) -> None:
    assert repository.manifest("tag", accept=(MANIFEST_TYPE,)) is None
    assert repository.referrers(DIGEST, "a/b") is None
    assert not repository.has_blob(DIGEST)
    server.answer = lambda _request: Answer(200, b'{"manifests": []}')
    assert repository.referrers(DIGEST, "a/b") == []
    assert server.requests[-1].path.endswith(f"/referrers/{DIGEST}?artifactType=a%2Fb")


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, UnavailableError), (403, AuthError), (400, SaltflatError), (200, SaltflatError)],
)
def test_refusals_are_errors_of_ours(
    server: ScriptedServer, repository: ArtifactRepository, status: int, error: type[SaltflatError]
) -> None:
    server.answer = lambda _request: Answer(status)
    with pytest.raises(error):
        repository.push_manifest(MANIFEST, "tag")
    # Only what may pass is tried again.
    assert len(server.requests) == (4 if error is UnavailableError else 1)


def test_loading_it_does_not_load_oras() -> None:
    program = "import sys, converter.artifact.pull; sys.exit('oras' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0
