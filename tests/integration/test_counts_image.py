"""As many as there may be: sizes, names, links and directories at their bounds, as the kernel sees.

Both prefixes of the counts image are mounted; e2fsck finds both clean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import counts, prepared
from tests.images.disks import checked_mount, convert, debugfs
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

Tool = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Mounted:
    """The image's disk with `deleted` names less in each folder, and its raw form."""

    root: Path
    raw: Path
    deleted: int


@pytest.fixture(scope="module")
def chain(saltflat: Saltflat, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the disks of the image's two links, base first."""
    layout = prepared.counts_layout()
    store = tmp_path_factory.mktemp("counts")
    top = convert(saltflat.good, store, f"oci:{layout}", "--max-ratio", counts.MAX_RATIO)
    (base,) = {*top.parent.glob("*.vmdk")} - {top}
    assert base.stat().st_size < 512 << 20  # 4 GiB of zeros are in it, and 66,000 directory blocks
    return [base, top]


@pytest.fixture(scope="module", params=[0, 1])
def disk(
    request: pytest.FixtureRequest,
    chain: list[Path],
    tool: Tool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mounted]:
    work = tmp_path_factory.mktemp("mounted")
    with checked_mount(tool, chain[request.param], work) as mount:
        yield Mounted(mount, work / "flat.raw", request.param * counts.DELETED)


def test_a_dense_file_of_more_than_4_gib(disk: Mounted, tool: Tool) -> None:
    path = disk.root / "large"
    assert path.stat().st_size == counts.SIZE
    assert path.stat().st_blocks * 512 >= counts.SIZE  # zeros of the archive are no holes
    with path.open("rb") as file:
        assert os.pread(file.fileno(), 10, counts.SIZE - 7) == b"\0\0" + counts.TAIL
        assert os.pread(file.fileno(), 4096, 1 << 32) == bytes(4096)
    told = re.search(rb"Size: (\d+)", debugfs(tool, disk.raw, "stat /large"))
    assert told is not None
    assert int(told[1]) == counts.SIZE


def test_a_directory_of_100_000_names(disk: Mounted) -> None:
    names = set(os.listdir(disk.root / "names"))  # noqa: PTH208 - a hundred thousand paths
    expected = {f"{number:06d}" for number in range(disk.deleted, counts.NAMES)}
    assert names == expected | ({"new"} if disk.deleted else set())
    assert (disk.root / "names" / "077777").stat().st_size == 0


def test_a_file_of_65_000_names(disk: Mounted) -> None:
    last = disk.root / "links" / f"{counts.LINKS - 1}"
    assert last.stat().st_nlink == counts.LINKS - disk.deleted
    assert last.samefile(disk.root / "links" / f"{disk.deleted:05d}")
    assert last.read_bytes() == b"1"


def test_a_directory_of_66_000_directories(disk: Mounted) -> None:
    folder = disk.root / "many"
    left = counts.DIRECTORIES - disk.deleted
    assert sum(entry.is_dir() for entry in os.scandir(folder)) == left
    # 1 is ext4's word for "too many to be counted" (dir_nlink).
    assert folder.stat().st_nlink == (left + 2 if left + 2 < 65_000 else 1)
    assert (folder / "65999").stat().st_nlink == 2
