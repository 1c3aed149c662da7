"""Archives of every program that writes them give the chain of the layout they were made of."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images import archives
from tests.integration.conftest import Saltflat, Tool

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def skopeo(tool: Tool) -> Callable[..., bytes]:
    """Return skopeo as a function of its arguments."""
    program = tool("skopeo")

    def run(*arguments: str) -> bytes:
        command = [program, "--insecure-policy", *arguments]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    return run


@pytest.fixture(scope="module")
def parts(corner_layout: Path) -> archives.Parts:
    """Return the corner image in pieces."""
    return archives.parts_of(corner_layout, "latest")


@pytest.fixture(scope="module")
def made(
    skopeo: Callable[..., bytes],
    tool: Tool,
    corner_layout: Path,
    parts: archives.Parts,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a folder with the corner image in every form of archive."""
    folder = tmp_path_factory.mktemp("archives")
    source = f"oci:{corner_layout}:latest"
    skopeo("copy", "-q", source, f"docker-archive:{folder}/skopeo-docker.tar:localhost:5000/app:1")
    skopeo("copy", "-q", source, f"oci-archive:{folder}/skopeo-oci.tar:app:1")
    skopeo("copy", "-q", "--dest-compress-format", "zstd:chunked", source, f"oci:{folder}/chunked")
    archives.write_legacy(folder / "legacy.tar", ("app:1", parts), ("app:2", parts))
    archives.write_containerd(folder / "containerd.tar", "app:1", parts)
    archives.write_crane(folder / "crane.tar", "app:1", parts)
    subprocess.run(
        [tool("bsdtar"), "--format=pax", "-cf", folder / "bsdtar.tar", "-C", corner_layout, "."],
        check=True,
        timeout=60,
    )
    for name, program in (("legacy", "gzip"), ("crane", "zstd"), ("skopeo-oci", "zstd")):
        subprocess.run([tool(program), "-k1q", folder / f"{name}.tar"], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def expected(
    saltflat: Saltflat, corner_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> object:
    """Return the links of the corner image, converted from its layout."""
    return convert(saltflat, tmp_path_factory.mktemp("expected"), f"oci:{corner_layout}:latest")[0]


def convert(
    saltflat: Saltflat, store: Path, source: str, stdin: bytes = b""
) -> tuple[object, dict[str, object]]:
    """Return what counts of the links, and the whole result."""
    output = saltflat.good("convert", "--store", store, "--format", "json", source, stdin=stdin)
    document = json.loads(output)
    keys = ("link_id", "parent", "layers", "size", "sha256")
    return [{key: link[key] for key in keys} for link in document["links"]], document


@pytest.mark.parametrize(
    "source",
    [
        "docker-archive:{}/skopeo-docker.tar",
        "docker-archive:{}/legacy.tar:app:2",
        "docker-archive:{}/legacy.tar.gz:@0",
        "docker-archive:{}/containerd.tar",
        "docker-archive:{}/crane.tar.zst:app:1",
        "oci-archive:{}/skopeo-oci.tar:app:1",
        "oci-archive:{}/skopeo-oci.tar.zst",
        "oci-archive:{}/containerd.tar:docker.io/library/app:1",
        "oci-archive:{}/bsdtar.tar:latest",
        "oci:{}/chunked",
    ],
)
def test_the_same_links_from_every_form(
    saltflat: Saltflat, made: Path, expected: object, tmp_path: Path, source: str
) -> None:
    links, _ = convert(saltflat, tmp_path / "store", source.format(made))
    assert links == expected
    # An archive's layers are read where they are, or from a copy that is gone.
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "blobs", "boot", "cache", "images", "links", "locks", "pins", "store.json",
    ]  # fmt: skip
    kept = list((tmp_path / "store" / "blobs" / "sha256").iterdir())
    assert len(kept) == 2  # manifest and configuration


@pytest.mark.parametrize(
    ("name", "scheme"), [("legacy.tar", "docker-archive"), ("skopeo-oci.tar.zst", "oci-archive")]
)
def test_standard_input(
    saltflat: Saltflat, made: Path, expected: object, tmp_path: Path, name: str, scheme: str
) -> None:
    chosen = ":app:1" if name == "legacy.tar" else ""
    data = (made / name).read_bytes()
    links, result = convert(saltflat, tmp_path, f"{scheme}:-{chosen}", stdin=data)
    assert links == expected
    assert str(result["reference"]).startswith(f"{scheme}:-")


@pytest.mark.parametrize("name", ["skopeo-docker.tar", "legacy.tar:app:1"])
def test_digests_of_docker_archives_are_those_that_skopeo_reports(
    saltflat: Saltflat, skopeo: Callable[..., bytes], made: Path, name: str
) -> None:
    source = f"docker-archive:{made}/{name}"
    ours = json.loads(saltflat.good("inspect", "--format", "json", source))
    theirs = json.loads(skopeo("inspect", source))
    assert ours["digest"] == theirs["Digest"]
    assert [layer["digest"] for layer in ours["layers"]] == theirs["Layers"]


def test_an_archive_that_is_a_layout_too_has_the_images_own_digest_there(
    saltflat: Saltflat, corner_layout: Path, made: Path
) -> None:
    def digest(source: str) -> object:
        return json.loads(saltflat.good("inspect", "--format", "json", source))["digest"]

    own = digest(f"oci:{corner_layout}:latest")
    assert digest(f"oci-archive:{made}/containerd.tar") == own
    assert digest(f"docker-archive:{made}/containerd.tar") != own


def test_layers_were_chunked(made: Path) -> None:
    """The oracle of the case above: skopeo did write zstd:chunked."""
    index = json.loads((made / "chunked" / "index.json").read_bytes())
    blobs = made / "chunked" / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
        assert "io.containers.zstd-chunked.manifest-position" in layer["annotations"]
        # Its table of contents is in a skippable frame: 0x184D2A50.
        assert b"\x50\x2a\x4d\x18" in (blobs / layer["digest"][7:]).read_bytes()


def test_verify_compares_with_an_archive(saltflat: Saltflat, made: Path, tmp_path: Path) -> None:
    archive = f"docker-archive:{made}/legacy.tar.gz:app:1"
    saltflat.good("convert", "--store", tmp_path / "store", archive, "-o", tmp_path / "bundle")
    said = saltflat.good(
        "verify", tmp_path / "bundle", "--image", "docker-archive:-:app:2",
        "--store", tmp_path / "store", stdin=(made / "legacy.tar").read_bytes(),
    )  # fmt: skip
    assert b"tree: " in said


def test_encrypted_layers_and_schema_1_are_refused_with_what_to_do(
    saltflat: Saltflat,
    skopeo: Callable[..., bytes],
    tool: Tool,
    corner_layout: Path,
    tmp_path: Path,
) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for command in (
        [tool("openssl"), "genrsa", "-out", key, "2048"],
        [tool("openssl"), "rsa", "-in", key, "-pubout", "-out", public],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    source = f"oci:{corner_layout}:latest"
    encrypted = f"oci:{tmp_path}/encrypted:1"
    skopeo("copy", "-q", "--encryption-key", f"jwe:{public}", source, encrypted)
    done = saltflat("convert", "--store", tmp_path / "store", encrypted)
    assert done.returncode == 2
    assert b"has an encrypted layer" in done.stderr
    assert b"--decryption-key" in done.stderr

    skopeo("copy", "-q", "--format", "v2s1", source, f"dir:{tmp_path}/schema1")
    manifest = (tmp_path / "schema1" / "manifest.json").read_bytes()
    assert json.loads(manifest)["signatures"]
    layout = tmp_path / "layout"
    archives.write_single_manifest(layout, manifest)
    done = saltflat("convert", "--store", tmp_path / "store", f"oci:{layout}")
    assert done.returncode == 2
    assert b"schema 1" in done.stderr
    assert b"Next: Push it again" in done.stderr
