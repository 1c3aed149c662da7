"""What is pushed into a real docker-registry: skopeo and its own storage say that it is there."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.errors import NotFoundError, SaltflatError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.registry import listing
from converter.registry.artifacts import ArtifactRepository, document_bytes
from converter.registry.client import RegistryClient, RegistryOptions
from converter.registry.push import push_blob
from tests.integration.registry_server import RegistryServer, registry_server

pytestmark = pytest.mark.integration

BLOB = b"some blob " * 1000
CONFIG = b"{}"
OPTIONS = RegistryOptions(plain_http=True, retries=1)


@pytest.fixture(scope="module")
def registry(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    with registry_server(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def client(registry: RegistryServer) -> Iterator[RegistryClient]:
    with RegistryClient(registry.host, OPTIONS) as opened:
        yield opened


def send(client: RegistryClient, repository: str, content: bytes) -> str:
    digest = str(Digest.of(content))
    push_blob(client, repository, digest, len(content), lambda: io.BytesIO(content))
    return digest


def test_blobs_and_a_manifest(
    registry: RegistryServer, client: RegistryClient, tool: Callable[[str], str]
) -> None:
    one = ArtifactRepository(client, "one")
    digest = str(Digest.of(BLOB))
    assert not one.has_blob(digest)
    assert send(client, "one", BLOB) == digest
    assert one.has_blob(digest)
    assert registry.blob_file(digest).read_bytes() == BLOB
    config = send(client, "one", CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": c.OCI_MANIFEST,
        "config": {"mediaType": c.OCI_CONFIG, "digest": config, "size": len(CONFIG)},
        "layers": [{"mediaType": c.LAYER_TAR, "digest": digest, "size": len(BLOB)}],
    }
    for tag in ("a", "b", "c"):
        assert not one.push_manifest(manifest, tag)  # 2.8 has no referrers API
    assert sorted(listing.tags(client, "one")) == ["a", "b", "c"]
    command = [tool("skopeo"), "inspect", "--raw", "--tls-verify=false"]
    done = subprocess.run(
        [*command, f"docker://{registry.host}/one:b"], capture_output=True, check=True, timeout=60
    )
    assert done.stdout == document_bytes(manifest)


def test_an_empty_blob(registry: RegistryServer, client: RegistryClient) -> None:
    assert registry.blob_file(send(client, "one", b"")).read_bytes() == b""


def test_a_wrong_digest_is_refused(client: RegistryClient) -> None:
    wrong = str(Digest.of(b"other"))
    with pytest.raises(SaltflatError, match="DIGEST_INVALID"):
        push_blob(client, "one", wrong, len(BLOB), lambda: io.BytesIO(BLOB))


def test_no_referrers_api(client: RegistryClient) -> None:
    with pytest.raises(NotFoundError):
        list(listing.referrers(client, "one", str(Digest.of(BLOB))))


def test_a_file_is_sent_from_its_start(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "large").write_bytes(content)
    digest = str(Digest.of(content))
    push_blob(client, "one", digest, len(content), lambda: (tmp_path / "large").open("rb"))
    assert registry.blob_file(digest).read_bytes() == content
