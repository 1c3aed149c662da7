"""The file system is for every kernel from 4.4 on and for e2fsprogs from Debian 11 on.

Which kernel has which feature is what ext4(5) of Debian 11's e2fsprogs says; whether e2fsprogs are
content is what those of Debian 11 and 13 say themselves. Debian 12's are in all other tests.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images import prepared
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

OLDEST_KERNEL = (4, 4)
PREFIXES = (1, 2, 3, 4, 5)
RELEASES = {"bullseye": "1.46.2", "trixie": "1.47.2"}
FEATURES = {
    *("has_journal", "ext_attr", "dir_index", "filetype", "extent", "flex_bg", "sparse_super"),
    *("large_file", "huge_file", "uninit_bg", "dir_nlink", "extra_isize"),
}


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tool: Callable[[str], str]) -> str:
    tool("mmdebstrap")
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def disks(
    saltflat: Saltflat, corner_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return the raw disk of each prefix of the corner image, with a journal and without."""
    folder = tmp_path_factory.mktemp("disks")
    found = {}
    for prefix in PREFIXES:
        for journal in ("--journal", "--no-journal"):
            options = ["--store", folder / "store", "--format", "json", journal]
            source = f"oci:{corner_layout}:prefix-{prefix}"
            result = json.loads(saltflat.good("convert", *options, source))
            raw = folder / f"{prefix}{journal}.raw"
            top = result["links"][-1]["file"]
            subprocess.run(["qemu-img", "convert", "-O", "raw", top, raw], check=True, timeout=60)
            found[raw.name] = raw
    return found


def _features(disk: Path, command: list[str]) -> set[str]:
    done = subprocess.run(
        [*command, "-h", disk], capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = re.findall(r"^Filesystem features: +(.*)$", done.stdout, re.MULTILINE)
    return set(line.split())


def _kernels(manual: Path) -> dict[str, tuple[int, ...]]:
    """Return the kernel that each feature came with, from the source of ext4(5)."""
    text = gzip.decompress(manual.read_bytes()).decode()
    section = text.split(".SH KERNEL SUPPORT")[1].split(".SH")[0]
    found = re.findall(r'^\.IP "\\fB(\w+)\\fR" 2in?\next[^,]*, ([0-9.]+)', section, re.MULTILINE)
    return {feature: tuple(map(int, kernel.split("."))) for feature, kernel in found}


def test_every_feature_is_older_than_kernel_4_4(
    tool: Callable[[str], str], disks: dict[str, Path]
) -> None:
    tool("mmdebstrap")
    root = prepared.e2fsprogs_oldest()
    kernels = _kernels(root / "usr/share/man/man5/ext4.5.gz")
    assert kernels["metadata_csum"] == (3, 18)  # the page is read rightly, also what is too young:
    assert kernels["project"] == (4, 5) > OLDEST_KERNEL
    dumpe2fs = prepared.foreign_program(root, "dumpe2fs")
    for name, disk in disks.items():
        features = _features(disk, dumpe2fs)
        assert features == FEATURES - ({"has_journal"} if "--no-journal" in name else set())
        assert max(kernels[feature] for feature in features) <= OLDEST_KERNEL


def test_e2fsck_finds_every_prefix_clean(release: str, disks: dict[str, Path]) -> None:
    root = prepared.e2fsprogs_root(release)
    e2fsck = prepared.foreign_program(root, "e2fsck")
    version = subprocess.run(
        [*e2fsck, "-V"], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"e2fsck {RELEASES[release]} " in version.stderr
    for name, disk in disks.items():
        done = subprocess.run(
            [*e2fsck, "-fn", disk], capture_output=True, text=True, timeout=60, check=False
        )
        # With -n e2fsck answers some questions "no" and still ends with 0.
        assert (done.returncode, "? no" in done.stdout) == (0, False), f"{name}: {done.stdout}"


def test_the_old_e2fsck_would_complain(
    tool: Callable[[str], str], disks: dict[str, Path], tmp_path: Path
) -> None:
    tool("mmdebstrap")
    e2fsck = prepared.foreign_program(prepared.e2fsprogs_oldest(), "e2fsck")
    damaged = tmp_path / "damaged.raw"
    subprocess.run(["cp", "--sparse=always", disks["5--journal.raw"], damaged], check=True)
    with open(damaged, "r+b") as file:
        file.seek(1024 + 0x0C)  # s_free_blocks_count_lo
        file.write(b"\1\0\0\0")
    done = subprocess.run([*e2fsck, "-fn", damaged], capture_output=True, timeout=60, check=False)
    assert done.returncode == 4 or b"? no" in done.stdout
