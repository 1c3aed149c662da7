"""Every kind of link, as base and as child, alone and mixed: read by QEMU, by us, by dissect.

docs/vmdk.md has the table of formats and names these tests.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.vmdk.chain import open_chain
from tests.unit.vmdk.kinds import CHILDREN, K64, KINDS, Changes, Kind, random_changes, write_links

pytestmark = pytest.mark.integration

SPARSE = KINDS[0]
DISSECTED = Path(__file__).with_name("dissected.py")


def capacity(kind: Kind) -> int:
    """Return a disk's size: two tables of the kind's at least."""
    large = {"sparse, 128 sectors", "sparse, every table", "stream, front"}
    return 34 << 20 if kind.name in large else 18 << 20


@pytest.fixture
def same(tool: Callable[[str], str], tmp_path: Path) -> Callable[[Path, bytes], None]:
    """Return a check that qemu-img finds nothing wrong with a disk and reads it as these bytes."""
    qemu_img = tool("qemu-img")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [qemu_img, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def check(path: Path, disk: bytes) -> None:
        with (tmp_path / "model.raw").open("wb") as model:
            for offset in range(0, len(disk), K64):  # with holes: most of a disk is zeros
                if any(disk[offset : offset + K64]):
                    model.seek(offset)
                    model.write(disk[offset : offset + K64])
            model.truncate(len(disk))
        run("check", "-f", "vmdk", path.name)
        told = run("compare", "-f", "vmdk", "-F", "raw", path.name, "model.raw")
        assert told == "Images are identical.\n"

    return check


def ours(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.capacity_bytes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_base_of_each_kind(
    kind: Kind, same: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    size = capacity(kind)
    changes = random_changes(random.Random(1), size)
    [(path, disk)] = write_links(tmp_path, [(kind, changes)], size)
    assert ours(path) == disk
    same(path, disk)


@pytest.mark.parametrize("kind", CHILDREN, ids=lambda kind: kind.name)
def test_a_child_of_each_kind(
    kind: Kind, same: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    dice = random.Random(2)
    size = capacity(kind)
    below = (SPARSE, ((0, dice.randbytes(4 * K64)),))
    above = (kind, ((K64, bytes(K64)), *random_changes(dice, size)))
    path, disk = write_links(tmp_path, [below, above], size)[-1]
    assert ours(path) == disk
    same(path, disk)


def random_links(dice: random.Random, count: int, size: int) -> list[tuple[Kind, Changes]]:
    """Return a chain of any kinds; only the base may be flat."""
    return [
        (dice.choice(CHILDREN if number else KINDS), random_changes(dice, size))
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_chains_of_24_links_of_mixed_kinds(
    seed: int, same: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    dice = random.Random(seed)
    size = 18 << 20
    links = random_links(dice, 24, size)
    assert len({kind.name for kind, _ in links}) > 8
    written = write_links(tmp_path, links, size)
    for path, disk in (written[0], written[7], written[23]):
        assert ours(path) == disk
        same(path, disk)


def test_dissect_reads_each_kind_as_we_do(tmp_path: Path) -> None:
    """Each kind as a base, and as a child of one; and a long chain of all kinds."""
    dice = random.Random(3)
    top, disk = write_links(tmp_path, random_links(dice, 24, 18 << 20), 18 << 20)[-1]
    wanted = {top: ("mixed", hashlib.sha256(disk).hexdigest())}
    for number, kind in enumerate(KINDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        size = capacity(kind)
        links = [(kind, random_changes(dice, size))]
        if kind.may_be_child:
            links.append((kind, random_changes(dice, size)))
        for path, disk in write_links(folder, links, size):
            wanted[path] = (kind.name, hashlib.sha256(disk).hexdigest())
    command = [sys.executable, "-W", "ignore", DISSECTED, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = done.stdout.splitlines()
    assert [
        f"{name} {path.name}: {got}"
        for (path, (name, want)), got in zip(wanted.items(), found, strict=True)
        if got != want
    ] == []
