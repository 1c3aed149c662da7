"""Every prefix of real chains, read back by programs that we did not write.

qemu-img checks the disks, e2fsck the file system, and the kernel mounts it, so that its tree can be
compared with what `umoci unpack` makes of the same layers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tests.images.trees import differences, mounted, read_tree
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]


@pytest.fixture(scope="module")
def chain_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chains")


def _check_prefix(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    store: Path,
    layout: Path,
    tag: str,
    work: Path,
    max_links: int = 24,
) -> list[str]:
    """Convert, check and compare; return the ids of the links."""
    image = f"{layout}:{tag}"
    options = ["--store", store, "--format", "json", "--max-links", f"{max_links}"]
    result = json.loads(saltflat.good("convert", *options, f"oci:{image}"))
    disk = Path(result["links"][-1]["file"])
    for link in result["links"]:
        check = [tool("qemu-img"), "check", "-f", "vmdk", link["file"]]
        subprocess.run(check, check=True, capture_output=True, timeout=60)
    unpacked_ns = time.time_ns()
    umoci = [tool("umoci"), "unpack", "--image", image, work / "umoci"]
    subprocess.run(umoci, check=True, capture_output=True, timeout=100)
    with mounted(disk, work / "mount", work) as mount:
        fsck = subprocess.run(
            [tool("e2fsck"), "-fn", work / "flat.raw"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ours = read_tree(mount)
    assert (fsck.returncode, "? no" in fsck.stdout) == (0, False), fsck.stdout
    found = differences(read_tree(work / "umoci" / "rootfs"), ours, unpacked_ns=unpacked_ns)
    assert not found, "\n".join(found[:20])
    assert len(result["links"]) <= max_links
    return [link["link_id"] for link in result["links"]]


@pytest.mark.parametrize("prefix", [1, 2, 3, 4, 5])
def test_corner_image(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    chain_store: Path,
    corner_layout: Path,
    tmp_path: Path,
    prefix: int,
) -> None:
    _check_prefix(saltflat, tool, chain_store, corner_layout, f"prefix-{prefix}", tmp_path)


@pytest.mark.parametrize("prefix", [1, 2, 3, 4])
def test_demo_image(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    chain_store: Path,
    demo_layout: Path,
    tmp_path: Path,
    prefix: int,
) -> None:
    _check_prefix(saltflat, tool, chain_store, demo_layout, f"prefix-{prefix}", tmp_path)


@pytest.mark.parametrize("max_links", [1, 2, 4])
def test_corner_image_with_layers_that_share_links(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    chain_store: Path,
    corner_layout: Path,
    tmp_path: Path,
    max_links: int,
) -> None:
    _check_prefix(saltflat, tool, chain_store, corner_layout, "latest", tmp_path, max_links)


def _many_layers(folder: Path) -> None:
    layout = LayoutWriter(folder)
    for number in range(33):

        def write(tar: TarBuilder, number: int = number) -> None:
            tar.directory("all", mode=0o700 | number)
            tar.file(f"all/{number}", b"x" * number)
            tar.file("all/last", f"{number}".encode())
            tar.directory(f"only/{number}/deep")
            if number % 3 == 2:
                tar.whiteout(f"all/{number - 1}")
                tar.whiteout(f"only/{number - 2}")
            if number % 10 == 9:
                tar.opaque("only")

        layout.layer(write, comment=f"{number}")
    layout.finish(config={})


def test_an_image_of_33_layers(
    saltflat: Saltflat, tool: Callable[[str], str], chain_store: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    _many_layers(layout)
    chains = []
    for count in (32, 33):
        work = tmp_path / f"{count}"
        work.mkdir()
        tag = f"prefix-{count}"
        chains.append(_check_prefix(saltflat, tool, chain_store, layout, tag, work))
    assert [len(chain) for chain in chains] == [18, 18]  # borders at 1 to 13, 15, 19, 24, 31, 40
    assert chains[0][:17] == chains[1][:17]
    assert chains[0][17] != chains[1][17]
