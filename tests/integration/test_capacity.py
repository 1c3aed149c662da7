"""What a disk must have room for: the image, and inodes for what will run on it.

A refusal names the layer, the need and --capacity, and leaves the store as it was. What is left is
counted by dumpe2fs.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.layout import LayerWriter, LayoutWriter
from tests.images.tarball import TarBuilder
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

MIB = 1 << 20
BYTES_PER_INODE = 16 << 10


def _files(count: int, size: int = 0) -> LayerWriter:
    def write(tar: TarBuilder) -> None:
        for number in range(count):
            tar.file(f"many/{number}", b"x" * size)

    return write


def _directories(count: int) -> LayerWriter:
    def write(tar: TarBuilder) -> None:
        for number in range(count):
            tar.directory(f"many/{number}")

    return write


def _layout(folder: Path, upper: LayerWriter) -> Path:
    layout = LayoutWriter(folder)
    layout.layer(lambda tar: tar.file("below", b"first layer"), comment="a file")
    layout.layer(upper, comment="too much, or nearly")
    layout.finish(config={})
    return folder


def _contents(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file() and path.parent.name != "locks"
    }


@pytest.mark.parametrize(
    ("capacity_mib", "upper", "what"),
    [
        pytest.param(
            64,
            lambda tar: tar.zeros("big", 100 * MIB),
            r"64 MiB are full and \d+ bytes more are needed for one file",
            id="blocks for one file",
        ),
        pytest.param(
            64, _files(70, MIB), r"64 MiB are full and \d+ bytes more", id="blocks for many"
        ),
        pytest.param(
            64, _files(9000), "none of the disk's 16384 inodes is left for another file", id="files"
        ),
        pytest.param(
            64, _directories(9000), "16384 inodes is left for another directory", id="directories"
        ),
        pytest.param(
            512,
            _files(40_000),
            r"its 400\d\d files and directories leave 255\d\d inodes",
            id="inodes for the app",
        ),
    ],
)
def test_too_much_is_refused_and_leaves_the_store_as_it_was(
    saltflat: Saltflat, tmp_path: Path, capacity_mib: int, upper: LayerWriter, what: str
) -> None:
    layout = _layout(tmp_path / "layout", upper)
    store = tmp_path / "store"
    options = ["--store", store, "--capacity", f"{capacity_mib}M"]
    saltflat.good("convert", *options, f"oci:{layout}:prefix-1")
    before = _contents(store)
    done = saltflat("convert", *options, f"oci:{layout}:latest")
    index = json.loads((layout / "index.json").read_bytes())
    manifest = next(
        layout / "blobs" / entry["digest"].replace(":", "/")
        for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    )
    layer = json.loads(manifest.read_bytes())["layers"][1]["digest"]
    message = done.stderr.decode()
    assert done.returncode == 1
    assert f"Error: layer 2/2 ({layer}): " in message
    assert "The image does not fit: " in message
    assert re.search(what, message), message
    assert re.search("Next: .*--capacity", message), message
    assert message.count("Error:") == 1
    assert _contents(store) == before
    saltflat.good("store", "verify", "--store", store)


def test_the_bytes_that_are_named_are_the_need(saltflat: Saltflat, tmp_path: Path) -> None:
    layout = _layout(tmp_path / "layout", lambda tar: tar.zeros("big", 100 * MIB))
    options = ["--store", tmp_path / "store"]
    done = saltflat("convert", *options, "--capacity", "64M", f"oci:{layout}:latest")
    (missing,) = re.findall(r"(\d+) bytes more are needed", done.stderr.decode())
    enough_mib = -(-(64 * MIB + int(missing)) // MIB)
    assert enough_mib < 128, "with another block group there would be more metadata"
    for capacity_mib, code in ((enough_mib - 1, 1), (enough_mib, 0)):
        capacity = ["--capacity", f"{capacity_mib}M"]
        done = saltflat("convert", *options, *capacity, f"oci:{layout}:latest")
        assert done.returncode == code, done.stderr.decode()


@pytest.mark.parametrize("capacity", ["63M", "100000000", "2T"])
def test_an_impossible_capacity_is_refused(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path, capacity: str
) -> None:
    options = ["--store", tmp_path / "store", "--capacity", capacity]
    done = saltflat("convert", *options, f"oci:{corner_layout}:latest")
    assert done.returncode == 2
    assert b"multiple of 1 MiB between 64 MiB and 2000 GiB" in done.stderr


def test_the_largest_capacity_is_possible(
    saltflat: Saltflat, tool: Callable[[str], str], tmp_path: Path
) -> None:
    layout = _layout(tmp_path / "layout", _files(1))
    options = ["--store", tmp_path / "store", "--format", "json", "--capacity", "2000G"]
    result = json.loads(saltflat.good("convert", *options, f"oci:{layout}:latest"))
    top = result["links"][-1]["file"]
    check = [tool("qemu-img"), "check", "-f", "vmdk", top]
    subprocess.run(check, check=True, capture_output=True, timeout=60)
    saltflat.good("verify", top)


def test_the_capacity_that_is_named_is_enough(saltflat: Saltflat, tmp_path: Path) -> None:
    layout = _layout(tmp_path / "layout", _files(79_000))
    options = ["--store", tmp_path / "store"]
    done = saltflat("convert", *options, "--capacity", "900M", f"oci:{layout}:latest")
    (named,) = re.findall(r"--capacity: (\d+G) is enough", done.stderr.decode())
    saltflat.good("convert", *options, "--capacity", named, f"oci:{layout}:latest")


@pytest.mark.parametrize(
    ("capacity", "upper"),
    [
        pytest.param("64M", _files(10), id="the smallest disk"),
        pytest.param("64M", _files(40, MIB), id="nearly out of blocks"),
        pytest.param("512M", _files(33_000), id="nearly out of inodes"),
        pytest.param("16G", _files(100_000, 1000), id="many small files"),
    ],
)
def test_an_inode_for_each_16_kib_is_left(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    tmp_path: Path,
    capacity: str,
    upper: LayerWriter,
) -> None:
    layout = _layout(tmp_path / "layout", upper)
    options = ["--store", tmp_path / "store", "--format", "json", "--capacity", capacity]
    result = json.loads(saltflat.good("convert", *options, f"oci:{layout}:latest"))
    raw = tmp_path / "disk.raw"
    top = result["links"][-1]["file"]
    subprocess.run(["qemu-img", "convert", "-O", "raw", top, raw], check=True, timeout=100)
    for command in ([tool("e2fsck"), "-fn"], [tool("dumpe2fs"), "-h"]):
        done = subprocess.run(
            [*command, raw], capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.returncode, "? no" in done.stdout) == (0, False), done.stdout
    counts = dict(re.findall(r"^(Free inodes|Free blocks): +(\d+)$", done.stdout, re.MULTILINE))
    free_bytes = int(counts["Free blocks"]) * 4096
    assert int(counts["Free inodes"]) >= free_bytes // BYTES_PER_INODE
