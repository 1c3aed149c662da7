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

from tests.images.trees import differences, mounted, read_tree
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]


@pytest.fixture(scope="module")
def chain_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chains")


def _check_prefix(
    saltflat: Saltflat, tool: Callable[[str], str], store: Path, layout: Path, tag: str, work: Path
) -> None:
    image = f"{layout}:{tag}"
    result = json.loads(
        saltflat.good("convert", "--store", store, "--format", "json", f"oci:{image}")
    )
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
