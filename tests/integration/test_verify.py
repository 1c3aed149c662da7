"""`saltflat verify` as a user calls it, on sound bundles and in its ways to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.damage import DamagedBundle
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def corner(
    saltflat: Saltflat, corner_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with a store and the corner image's bundle."""
    folder = tmp_path_factory.mktemp("corner")
    source = f"oci:{corner_layout}:latest"
    saltflat.good("convert", "--store", folder / "store", source, "-o", folder / "bundle")
    return folder


def _verify(saltflat: Saltflat, *arguments: str | Path) -> dict[str, str]:
    document = json.loads(saltflat.good("verify", "--format", "json", *arguments))
    assert document["schema"] == 1
    return {check["subject"]: check["summary"] for check in document["checks"]}


def test_a_bundle_is_checked_without_any_store_or_network(
    saltflat: Saltflat, corner: Path, tmp_path: Path
) -> None:
    checks = _verify(saltflat, "--store", tmp_path / "none", corner / "bundle")
    links = [subject for subject in checks if subject.startswith("disk/")]
    assert len(links) == 4
    assert [subject for subject in checks if subject not in links] == [
        "bundle.json",
        "manifest.json",
        "config.json",
        "chain",
        "file system",
    ]
    assert not list(tmp_path.iterdir())
    text = saltflat.good("verify", corner / "bundle").decode().splitlines()
    assert text == [f"{subject}: {summary}" for subject, summary in checks.items()]
    assert _verify(saltflat, f"bundle:{corner / 'bundle'}") == checks


def test_the_tree_is_that_of_the_image(
    saltflat: Saltflat, corner: Path, corner_layout: Path
) -> None:
    store = ("--store", corner / "store")
    image = ("--image", f"oci:{corner_layout}:latest")
    assert "438 names" in _verify(saltflat, *store, *image, corner / "bundle")["tree"]
    top = json.loads((corner / "bundle" / "bundle.json").read_bytes())["links"][-1]["file"]
    checks = _verify(saltflat, *store, *image, corner / "bundle" / top)
    assert list(checks)[-3:] == ["chain", "file system", "tree"]


def test_the_demo_image_and_its_grouped_form(
    saltflat: Saltflat, demo_layout: Path, tmp_path: Path
) -> None:
    source = f"oci:{demo_layout}:latest"
    for links in ("24", "2"):
        convert = ["convert", "--store", tmp_path / "store", "--max-links", links, source]
        saltflat.good(*convert, "-o", tmp_path / links)
        checks = _verify(
            saltflat, "--store", tmp_path / "store", "--image", source, tmp_path / links
        )
        assert "bytes of content are those of" in checks["tree"]


def test_an_image_in_a_registry(
    saltflat: Saltflat,
    registry: str,
    push: Callable[..., str],
    corner: Path,
    corner_layout: Path,
    tmp_path: Path,
) -> None:
    """Compressed anew it is another manifest, but the same layers."""
    reference = push(
        corner_layout, "latest", "verify:zstd", "--dest-compress-format=zstd", "--dest-compress"
    )
    store = ("--store", tmp_path / "store")
    image = ("--plain-http", "--image", reference)
    assert "438 names" in _verify(saltflat, *store, *image, corner / "bundle")["tree"]
    done = saltflat(
        "verify", *store, "--plain-http", "--image", f"{registry}/none", corner / "bundle"
    )
    assert done.returncode == 3


def test_another_image_is_said_to_be_another(
    saltflat: Saltflat, corner: Path, corner_layout: Path
) -> None:
    image = f"oci:{corner_layout}:prefix-3"
    done = saltflat("verify", "--store", corner / "store", "--image", image, corner / "bundle")
    assert done.returncode == 5
    assert b"The bundle was not made from oci:" in done.stderr
    top = json.loads((corner / "bundle" / "bundle.json").read_bytes())["links"][-1]["file"]
    done = saltflat(
        "verify", "--store", corner / "store", "--image", image, corner / "bundle" / top
    )
    assert done.returncode == 5
    assert b"The tree differs from the image: " in done.stderr


def test_a_fault_is_named_and_ends_with_5(saltflat: Saltflat, corner: Path, tmp_path: Path) -> None:
    bundle = DamagedBundle(corner / "bundle", tmp_path / "bundle")
    bundle.flip(bundle.inode_at(b"sizes/4096") + 0x0C)
    bundle.seal()
    done = saltflat("verify", bundle.folder)
    assert (done.returncode, done.stdout) == (5, b"")
    assert b"Error: file system: b'sizes/4096' (inode " in done.stderr
    done = saltflat("verify", "--format", "json", bundle.disks[-1])
    assert done.returncode == 5
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (error["kind"], error["exit_code"]) == ("integrity", 5)


def test_what_is_not_there_or_no_bundle(saltflat: Saltflat, tmp_path: Path) -> None:
    assert saltflat("verify", tmp_path / "nothing").returncode == 3
    assert saltflat("verify", tmp_path).returncode == 3
    (tmp_path / "file").write_bytes(b"x" * 512)
    assert saltflat("verify", tmp_path / "file").returncode == 5
    assert saltflat("verify").returncode == 2
