"""Links and QEMU: it reads what we write, we read what it writes, and it writes only to scratch."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.vmdk.c_vmdk import SECTOR
from converter.vmdk.chain import open_chain
from converter.vmdk.check import check_link
from converter.vmdk.scratch import write_scratch
from tests.unit.vmdk.chains import (
    LinkPlan,
    ParentRef,
    Write,
    cid_of,
    disk_of,
    write_chain,
)

pytestmark = pytest.mark.integration

K64 = 65536
GRAINS = 1100  # two whole tables and a part of one


@dataclass(frozen=True)
class Qemu:
    """QEMU's image tools, run in one folder, so that parents are found by their plain names."""

    image: str
    io: str
    folder: Path

    def img(self, *arguments: str) -> str:
        return self._run(self.image, *arguments)

    def commands(self, path: str, *commands: str) -> str:
        options = [word for command in commands for word in ("-c", command)]
        return self._run(self.io, *options, path)

    def raw(self, path: str) -> bytes:
        """Return the whole disk as qemu-img reads it."""
        self.img("convert", "-f", "vmdk", "-O", "raw", path, "disk.raw")
        return (self.folder / "disk.raw").read_bytes()

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            arguments, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def qemu(tool: Callable[[str], str], tmp_path: Path) -> Qemu:
    return Qemu(tool("qemu-img"), tool("qemu-io"), tmp_path)


def random_plans(seed: int, grain_bytes: int, links: int) -> list[LinkPlan]:
    """Return a base and children with random runs; a child punches zeros into what is below."""
    dice = random.Random(seed)
    plans = []
    for _ in range(links):
        free = set(range(GRAINS))
        writes = []
        for _ in range(12):
            grain = dice.choice((0, 505, 511, 512, GRAINS - 3, *dice.sample(range(GRAINS), 5)))
            length = min(dice.randint(1, 9), GRAINS - grain)
            run = set(range(grain, grain + length))
            if run <= free:
                free -= run
                writes.append(Write(grain, tuple(dice.choices((0, 1, 2, 3), k=length))))
        plans.append(LinkPlan(grain_bytes, tuple(writes)))
    return plans


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.mark.parametrize("grain_sectors", [8, 16, 32, 64, 128])
def test_qemu_reads_every_prefix_of_a_chain(grain_sectors: int, qemu: Qemu) -> None:
    grain_bytes = grain_sectors * SECTOR
    capacity = GRAINS * grain_bytes
    plans = random_plans(grain_sectors, grain_bytes, links=4)
    assert any(0 in write.contents for plan in plans[1:] for write in plan.writes)
    paths = write_chain(qemu.folder, plans, capacity)
    before = digests(paths)
    for count, path in enumerate(paths, start=1):
        assert "No errors" in qemu.img("check", path.name)
        disk = disk_of(plans[:count], capacity)
        assert qemu.raw(path.name) == disk
        (qemu.folder / "model.raw").write_bytes(disk)
        qemu.img("compare", "-f", "vmdk", "-F", "raw", path.name, "model.raw")
        with open_chain(path) as chain:
            assert chain.read(0, capacity) == disk
    assert digests(paths) == before


def test_qemu_sees_the_chain_that_we_mean(qemu: Qemu) -> None:
    paths = write_chain(qemu.folder, random_plans(1, K64, links=3), GRAINS * K64)
    infos = json.loads(qemu.img("info", "--output=json", "--backing-chain", paths[-1].name))
    assert [info["filename"] for info in infos] == [path.name for path in reversed(paths)]
    assert {info["virtual-size"] for info in infos} == {GRAINS * K64}
    assert {info["cluster-size"] for info in infos} == {K64}
    formats = [info["format-specific"]["data"] for info in infos]
    assert {each["create-type"] for each in formats} == {"monolithicSparse"}
    assert [each["cid"] for each in formats] == [cid_of(2), cid_of(1), cid_of(0)]
    assert [each["parent-cid"] for each in formats] == [cid_of(1), cid_of(0), 0xFFFFFFFF]


def test_qemu_agrees_on_what_is_allocated_where(qemu: Qemu) -> None:
    plans = random_plans(2, K64, links=3)
    paths = write_chain(qemu.folder, plans, GRAINS * K64)
    seen = {}
    for extent in json.loads(qemu.img("map", "--output=json", paths[-1].name)):
        if extent["data"]:
            link = len(plans) - 1 - extent["depth"]
            for offset in range(extent["start"], extent["start"] + extent["length"], K64):
                seen[offset] = link
    with open_chain(paths[-1]) as chain:
        assert dict(chain.grains()) == seen


def test_links_of_different_grain_sizes_make_one_disk(qemu: Qemu) -> None:
    plans = [
        LinkPlan(K64, (Write(3, (1, 3)), Write(60, (2, 1)))),
        LinkPlan(4096, (Write(50, (0, 5, 7)), Write(1000, (9, 0, 2)))),
        LinkPlan(16384, (Write(15, (3, 0)), Write(255, (1,)))),
    ]
    capacity = 64 * K64
    paths = write_chain(qemu.folder, plans, capacity)
    assert qemu.raw(paths[-1].name) == disk_of(plans, capacity)


@pytest.mark.parametrize("grain_sectors", [8, 128])
def test_a_guest_writes_to_scratch_and_to_nothing_else(grain_sectors: int, qemu: Qemu) -> None:
    grain_bytes = grain_sectors * SECTOR
    capacity = GRAINS * grain_bytes
    plans = random_plans(3, grain_bytes, links=3)
    paths = write_chain(qemu.folder, plans, capacity)
    for path in paths:
        path.chmod(0o444)
    before = digests(paths)
    scratch = qemu.folder / "scratch.vmdk"
    with scratch.open("wb+", buffering=0) as file:
        write_scratch(
            file,
            capacity_bytes=capacity,
            grain_bytes=grain_bytes,
            cid=1,
            parent=ParentRef(cid_of(2), paths[-1].name),
        )
    disk = disk_of(plans, capacity)
    assert qemu.raw(scratch.name) == disk
    writes = [
        (9 * SECTOR, 600 * SECTOR, 0xA5),
        (capacity - SECTOR, SECTOR, 0x5A),
        (512 * grain_bytes - SECTOR, 2 * SECTOR, 0x11),
    ]
    for offset, length, pattern in writes:
        disk[offset : offset + length] = bytes([pattern]) * length
        # One process each: a CID that QEMU has rewritten must still be one that it takes.
        qemu.commands(scratch.name, f"write -P {pattern} {offset} {length}", "flush")
    assert qemu.raw(scratch.name) == disk
    assert "No errors" in qemu.img("check", scratch.name)
    with open_chain(scratch) as chain:
        assert chain.read(0, capacity) == disk
    report = check_link(scratch)  # grains, both copies of the tables and no lost sector
    assert report.grains == len(_grains_touched(writes, grain_bytes))
    assert report.cid != 1
    assert digests(paths) == before


def _grains_touched(writes: list[tuple[int, int, int]], grain_bytes: int) -> set[int]:
    touched: set[int] = set()
    for offset, length, _ in writes:
        touched.update(range(offset // grain_bytes, (offset + length - 1) // grain_bytes + 1))
    return touched


@pytest.mark.parametrize("size", [GRAINS * K64, GRAINS * K64 + 512], ids=["whole", "odd size"])
def test_we_read_what_qemu_img_converted(size: int, qemu: Qemu) -> None:
    disk = disk_of(random_plans(4, K64, links=1), GRAINS * K64).ljust(size, b"!")
    (qemu.folder / "model.raw").write_bytes(disk)
    qemu.img("convert", "-f", "raw", "-O", "vmdk", "model.raw", "base.vmdk")
    with open_chain(qemu.folder / "base.vmdk") as chain:
        assert chain.read(0, size) == disk
    check_link(qemu.folder / "base.vmdk")


@pytest.mark.parametrize("options", ["", "zeroed_grain=on"], ids=["plain", "zeroed grains"])
def test_we_read_a_chain_that_qemu_made(options: str, qemu: Qemu) -> None:
    size = GRAINS * K64
    with_options = ["-o", options] if options else []
    qemu.img("create", "-f", "vmdk", *with_options, "base.vmdk", str(size))
    qemu.commands("base.vmdk", "write -P 1 0 1M", f"write -P 2 {512 * K64 - 4096} 8k")
    qemu.img("create", "-f", "vmdk", *with_options, "-b", "base.vmdk", "-F", "vmdk", "child.vmdk")
    qemu.commands("child.vmdk", "write -P 3 100k 4k", "write -z 128k 256k")
    disk = bytearray(size)
    disk[: 1 << 20] = b"\1" * (1 << 20)
    disk[512 * K64 - 4096 : 512 * K64 + 4096] = b"\2" * 8192
    disk[100 << 10 : 104 << 10] = b"\3" * 4096
    disk[128 << 10 : 384 << 10] = bytes(256 << 10)
    with open_chain(qemu.folder / "child.vmdk") as chain:
        assert chain.read(0, size) == disk
    report = check_link(qemu.folder / "child.vmdk")
    assert report.zero_grains == (4 if options else 0)
    assert check_link(qemu.folder / "base.vmdk").parent_cid is None
