"""Images pulled from a real docker-registry, into which skopeo pushed them."""

from __future__ import annotations

import gzip
import io
import json
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from converter.errors import IntegrityError, NotFoundError, SaltflatError, UnavailableError
from converter.events import ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.model import Image, Layer
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import Source, SourceOptions, open_source
from converter.layer.decompress import open_layer
from tests.integration.registry_server import RegistryServer, registry_server
from tests.unit.image.samples import Blobs, Document, as_json, on, tagged

pytestmark = pytest.mark.integration

OPTIONS = SourceOptions(plain_http=True, retries=1)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def tar(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def image(blobs: Blobs, architecture: str) -> Document:
    """Keep an image with a gzip and a zstd layer; return its manifest's descriptor."""
    plain = [tar("etc/a", b"gzip" * 100_000), tar("etc/b", architecture.encode() * 100_000)]
    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in plain]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": c.OCI_MANIFEST,
        "config": blobs.add(as_json(config), c.OCI_CONFIG),
        "layers": [
            blobs.add(gzip.compress(plain[0], mtime=0), c.LAYER_GZIP),
            blobs.add(zstandard.compress(plain[1]), c.LAYER_ZSTD),
        ],
    }
    return blobs.add(as_json(manifest), c.OCI_MANIFEST)


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, blobs: Blobs) -> Path:
    """Return a layout with an index of two platforms, and an image whose layer is a plain tar."""
    folder = tmp_path_factory.mktemp("layout")
    both = blobs.index(
        on(image(blobs, "amd64"), "linux/amd64"), on(image(blobs, "arm64"), "linux/arm64/v8")
    )
    plain = blobs.image(tar("etc/c", b"plain" * 100_000))
    blobs.write_layout(folder, tagged(both, "both"), tagged(plain, "plain"))
    return folder


@pytest.fixture(scope="module")
def registry(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, layout: Path
) -> Iterator[RegistryServer]:
    skopeo = tool("skopeo")
    with registry_server(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as server:
        command = [skopeo, "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        # Docker's format has neither plain nor zstd layers: skopeo compresses the plain one.
        for tag, name, option in (("both", "both:1", "--all"), ("plain", "docker:1", "-fv2s2")):
            source, target = f"oci:{layout}:{tag}", f"docker://{server.host}/test/{name}"
            subprocess.run([*command, option, source, target], check=True, timeout=60)
        yield server


def reference(server: RegistryServer, name: str) -> RegistryReference:
    parsed = parse_source(f"{server.host}/test/{name}")
    assert isinstance(parsed, RegistryReference)
    return parsed


def pull(
    server: RegistryServer, name: str, folder: Path, platform: Platform = AMD64
) -> tuple[Image, list[Path]]:
    with open_source(reference(server, name), OPTIONS) as source:
        found = source.resolve(platform)
        return found, fetch(source, found.layers, folder)


def fetch(source: Source, layers: tuple[Layer, ...], folder: Path) -> list[Path]:
    return [fetch_blob(source, layer.descriptor, folder, ignore) for layer in layers]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("platform", [AMD64, ARM64])
def test_an_index_of_two_platforms(
    registry: RegistryServer, blobs: Blobs, tmp_path: Path, platform: Platform
) -> None:
    found, paths = pull(registry, "both:1", tmp_path, platform)
    assert found.platform == platform
    assert found.reference == f"{registry.host}/test/both:1"
    assert found.config.execution == {"Cmd": ["sh"]}
    assert found.manifest_raw == blobs[str(found.digest)]
    assert [layer.descriptor.media_type for layer in found.layers] == [c.LAYER_GZIP, c.LAYER_ZSTD]
    for layer, path in zip(found.layers, paths, strict=True):
        assert path.read_bytes() == blobs[str(layer.descriptor.digest)]
        with path.open("rb") as file, open_layer(file, layer.descriptor) as stream:
            stream.check(layer.diff_id)
    with tarfile.open(fileobj=io.BytesIO(zstandard.decompress(paths[1].read_bytes()))) as archive:
        assert archive.extractfile("etc/b").read() == platform.architecture.encode() * 100_000


def test_the_docker_form(registry: RegistryServer, tmp_path: Path) -> None:
    found, paths = pull(registry, "docker:1", tmp_path)
    assert found.manifest.media_type == c.DOCKER_MANIFEST
    assert found.manifest.config.media_type == c.DOCKER_CONFIG
    for layer, path in zip(found.layers, paths, strict=True):
        assert layer.descriptor.media_type == c.DOCKER_LAYER_GZIP
        with path.open("rb") as file, open_layer(file, layer.descriptor) as stream:
            stream.check(layer.diff_id)


def test_by_digest_of_index_and_of_manifest(registry: RegistryServer, tmp_path: Path) -> None:
    by_tag, _ = pull(registry, "both:1", tmp_path)
    by_manifest, _ = pull(registry, f"both@{by_tag.digest}", tmp_path)
    assert by_manifest.layers == by_tag.layers
    inspect = json.loads((registry.blob_file(str(by_tag.digest))).read_bytes())
    assert inspect["config"]["digest"] == str(by_tag.manifest.config.digest)
    tags = registry.storage / "docker/registry/v2/repositories/test/both/_manifests/tags"
    index_digest = (tags / "1/current/link").read_text()
    by_index, _ = pull(registry, f"both:other-tag@{index_digest}", tmp_path)
    assert by_index.digest == by_tag.digest


@pytest.mark.parametrize(
    ("name", "platform", "said"),
    [
        ("both:2", AMD64, "both:2 was not found"),
        ("nothing:1", AMD64, "nothing:1 was not found"),
        ("both@sha256:" + "0" * 64, AMD64, "was not found"),
        ("both:1", Platform("linux", "s390x"), "has no image for linux/s390x"),
    ],
)
def test_what_is_not_there(
    registry: RegistryServer, tmp_path: Path, name: str, platform: Platform, said: str
) -> None:
    with pytest.raises(NotFoundError, match=said):
        pull(registry, name, tmp_path, platform)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("fault", ["changed", "shorter", "longer", "gone"])
def test_a_damaged_layer(registry: RegistryServer, tmp_path: Path, fault: str) -> None:
    good, _ = pull(registry, "both:1", tmp_path / "good")
    damaged = str(good.layers[1].descriptor.digest)
    file = registry.blob_file(damaged)
    content = file.read_bytes()
    bad = {
        "changed": content[:-1] + bytes([content[-1] ^ 1]),
        "shorter": content[:-1],
        "longer": content + b"x",
        "gone": None,
    }[fault]
    try:
        file.unlink() if bad is None else file.write_bytes(bad)
        with pytest.raises(SaltflatError, match=damaged) as caught:
            pull(registry, "both:1", tmp_path / "bad")
    finally:
        file.write_bytes(content)
    assert isinstance(caught.value, NotFoundError if fault == "gone" else IntegrityError)
    # The first layer is whole and stays; of the second there is nothing under any name.
    assert names_in(tmp_path / "bad") == {good.layers[0].descriptor.digest.encoded}


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_changed_document(registry: RegistryServer, tmp_path: Path, which: str) -> None:
    good, _ = pull(registry, "both:1", tmp_path / "good")
    digest = good.digest if which == "manifest" else good.manifest.config.digest
    file = registry.blob_file(str(digest))
    content = file.read_bytes()
    try:
        file.write_bytes(content.replace(b"layers", b"LAYERS"))
        with pytest.raises(IntegrityError, match=str(digest)):
            pull(registry, "both:1", tmp_path / "bad")
    finally:
        file.write_bytes(content)
    assert names_in(tmp_path / "bad") == set()


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    server = RegistryServer(host, tmp_path, tmp_path / "access.log", process=0)
    with pytest.raises(UnavailableError, match="Connection refused"):
        pull(server, "both:1", tmp_path / "blobs")
    assert names_in(tmp_path) == set()


def test_many_at_once(registry: RegistryServer, blobs: Blobs, tmp_path: Path) -> None:
    errors: list[BaseException] = []
    with open_source(reference(registry, "both:1"), OPTIONS) as source:
        found = source.resolve(AMD64)

        def work() -> None:
            try:
                fetch(source, found.layers, tmp_path)
            except BaseException as error:  # for the test's own thread to see
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert errors == []
    assert names_in(tmp_path) == {layer.descriptor.digest.encoded for layer in found.layers}
    for layer in found.layers:
        path = blob_path(tmp_path, layer.descriptor.digest)
        assert path.read_bytes() == blobs[str(layer.descriptor.digest)]


def test_https_is_the_default(registry: RegistryServer) -> None:
    with (
        open_source(reference(registry, "both:1"), SourceOptions(retries=0)) as source,
        pytest.raises(UnavailableError) as caught,
    ):
        source.resolve(AMD64)
    assert "--plain-http" in str(caught.value.hint)
