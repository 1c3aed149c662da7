"""Holes stay holes: sparse members of every dialect against what other programs make of them.

GNU tar and bsdtar write the archives and unpack them again; the kernel says where data is, on their
files and on ours.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.raw_layout import RawLayer, write_layout
from tests.images.tarball import noise
from tests.images.trees import mounted
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

KIB = 1 << 10
# name -> (size, stretches of data): all of them are holes as the kernel sees them
SHAPES: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "all-hole": (5 << 20, []),
    "hole-at-end": (1 << 20, [(0, 8 * KIB)]),
    "hole-at-start": (1 << 20, [((1 << 20) - 4 * KIB, 4 * KIB)]),
    "odd-end": ((1 << 20) + 777, [(64 * KIB, 4 * KIB), (1 << 20, 777)]),
    "large": (5 << 30, [(0, 4 * KIB), ((4 << 30) + 8 * KIB, 12 * KIB)]),
    "beyond-octal": (9 << 30, [(0, 4 * KIB), ((9 << 30) - 4 * KIB, 4 * KIB)]),
    "five-extents": (1 << 20, [(at * 128 * KIB, 4 * KIB) for at in range(5)]),
    "leaves": (64 << 20, [(at * 32 * KIB, 4 * KIB) for at in range(1200)]),
    "dense": (40 * KIB, [(0, 40 * KIB)]),
}
DIALECTS = {
    "oldgnu": ["tar", "--format=oldgnu", "--sparse"],
    "gnu": ["tar", "--format=gnu", "--sparse"],
    "pax-0.0": ["tar", "--format=posix", "--sparse", "--sparse-version=0.0"],
    "pax-0.1": ["tar", "--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax-1.0": ["tar", "--format=posix", "--sparse", "--sparse-version=1.0"],
    "bsdtar": ["bsdtar", "--format=pax", "--read-sparse"],
}


def _data_map(path: Path) -> list[tuple[int, int]]:
    """Return (offset, length) of the stretches with data, as the kernel tells them."""
    found: list[tuple[int, int]] = []
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here on
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at - start))
    return found


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sparse files."""
    folder = tmp_path_factory.mktemp("originals")
    for name, (size, stretches) in SHAPES.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)
            for offset, length in stretches:
                file.seek(offset)
                file.write(noise(f"{name} {offset}", length))
        assert _data_map(folder / name) == stretches
    return folder


@pytest.mark.parametrize("dialect", DIALECTS)
def test_holes_of_every_dialect(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    originals: Path,
    tmp_path: Path,
    dialect: str,
) -> None:
    program, *options = DIALECTS[dialect]
    archive = tmp_path / "layer.tar"
    write = [tool(program), *options, "-cf", archive, "-C", originals, *SHAPES]
    subprocess.run(write, check=True, timeout=60)
    assert archive.stat().st_size < 8 << 20  # it is sparse: one file alone has 5 GiB
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run([tool("bsdtar"), "-xpf", archive, "-C", unpacked], check=True, timeout=60)
    source = write_layout(tmp_path / "image", [RawLayer(archive.read_bytes())])
    store = tmp_path / "store"
    result = json.loads(saltflat.good("convert", "--store", store, "--format", "json", source))
    disk = Path(result["links"][-1]["file"])
    assert disk.stat().st_size < 12 << 20
    with mounted(disk, tmp_path / "mount", tmp_path) as mount:
        _fsck(tool, tmp_path / "flat.raw")
        for name in SHAPES:
            assert _data_map(mount / name) == _data_map(unpacked / name) == SHAPES[name][1], name
            stored = sum(length + -length % 4096 for _, length in SHAPES[name][1])
            tree = (mount / name).stat().st_blocks * 512 - stored
            assert 0 <= tree <= 4 * 4096, name
            assert (mount / name).stat().st_size == SHAPES[name][0]
            with (mount / name).open("rb") as ours, (unpacked / name).open("rb") as theirs:
                for offset, length in SHAPES[name][1]:
                    assert os.pread(ours.fileno(), length, offset) == os.pread(
                        theirs.fileno(), length, offset
                    )


def _fsck(tool: Callable[[str], str], raw: Path) -> None:
    done = subprocess.run(
        [tool("e2fsck"), "-fn", raw], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "? no" in done.stdout) == (0, False), done.stdout
