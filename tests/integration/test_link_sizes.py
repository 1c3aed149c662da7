"""What a small change to much costs, and that directories changed in place are right."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.small_changes import DELETED, KIB, LAYERS, NAMES, REFILLED, build, measure
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def links(saltflat: Saltflat, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the link of each layer, base first."""
    work = tmp_path_factory.mktemp("sizes")
    build(work / "layout")
    source = f"oci:{work / 'layout'}:latest"
    chain = json.loads(
        saltflat.good("convert", "--store", work / "store", "--format", "json", source)
    )
    return {name: Path(link["file"]) for name, link in zip(LAYERS, chain["links"], strict=True)}


def test_each_link_keeps_its_bound(links: dict[str, Path]) -> None:
    for name, size in measure(list(links.values())).items():
        assert size.size <= size.bound, (name, size)
    assert links["one file into 100,000"].stat().st_size <= 512 * KIB


def test_directories_changed_in_place_are_right(
    links: dict[str, Path], tool: Callable[[str], str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    names = {f"{number:06d}" for number in range(NAMES)}
    for name, path in links.items():
        flatten = [tool("qemu-img"), "convert", "-f", "vmdk", "-O", "raw", path, raw]
        subprocess.run(flatten, check=True, timeout=60)
        check = subprocess.run(
            [tool("e2fsck"), "-fn", raw], capture_output=True, text=True, timeout=60, check=False
        )
        assert (check.returncode, "? no" in check.stdout) == (0, False), (name, check.stdout)
        if name == "one file into 100,000":
            names.add("one more")
        elif name == "1,000 scattered deletes":
            names -= {deleted.removeprefix("big/") for deleted in DELETED}
        elif name == "500 names into the room of the deleted":
            names |= {refilled.removeprefix("big/") for refilled in REFILLED}
        listing = subprocess.run(
            [tool("debugfs"), "-R", "ls -p big", raw],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        rows = [line.split("/") for line in listing.splitlines() if line]
        found = [row[5] for row in rows if row[1] != "0"]  # /inode/mode/uid/gid/name/size/
        assert len(found) == len(set(found))
        assert set(found) - {".", ".."} == names, name
