"""A disk larger than the image: the file system grows to it, is filled, and is clean afterwards.

Online by tether at boot, as `run --storage-opt` makes it: QEMU takes a writable link that is larger
than the chain below it. Offline by resize2fs, as somebody would who flattens a chain.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.host import ExitStatus
from converter.launch import machine_spec, root_of_bundle
from converter.machine.model import Channel, RunConfig
from converter.store.bundle import read_bundle
from tests.guests.machines import run_to_end
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tests.images.trees import read_tree
from tests.integration.conftest import Saltflat
from tinykernel.record import load_boot_image

pytestmark = pytest.mark.integration

GIB = 1 << 30
BLOCK = 4096
CHAIN_GIB = 16  # the default capacity
SIZES_GIB = (20, 200)
APPLETS = ("cut", "dd", "df", "fallocate", "head", "mkdir", "rm", "sh", "tail", "tr", "yes")
MARK_BYTES = 1 << 20

# Fills the disk to the last block: with allocated blocks in pieces of a tenth of the disk, then of
# a hundredth, and so on, each with a MiB written in it; then with written blocks until that fails.
FILL = r"""
set -e
df -k / | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2
mkdir /fill
piece=$(( $1 / 10 ))
number=0
while [ $piece -ge 1 ]; do
    while fallocate -l ${piece}M /fill/$number 2>/dev/null; do
        yes $number | head -c 1048576 | dd of=/fill/$number conv=notrunc 2>/dev/null
        number=$((number + 1))
    done
    rm -f /fill/$number
    piece=$((piece / 10))
done
yes last | dd of=/fill/last bs=4096 2>/dev/null || echo full
df -k / | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4
echo $number
"""


@pytest.fixture(scope="module")
def layout(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image of two layers that has a shell and what `FILL` calls."""
    folder = tmp_path_factory.mktemp("image") / "layout"
    busybox = Path(tool("busybox")).read_bytes()
    writer = LayoutWriter(folder)

    def base(tar: TarBuilder) -> None:
        tar.directory("bin")
        tar.file("bin/busybox", busybox, mode=0o755)
        for name in APPLETS:
            tar.symlink(f"bin/{name}", "busybox")

    writer.layer(base, comment="busybox")
    writer.layer(lambda tar: tar.file("etc/release", b"second layer\n"), comment="a file")
    writer.finish(config={"Env": ["PATH=/bin"]})
    return folder


@pytest.fixture(scope="module")
def bundle(saltflat: Saltflat, layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    store = folder / "store"
    saltflat.good("convert", "--store", store, f"oci:{layout}:latest", "-o", folder / "bundle")
    return folder / "bundle"


def _check(raw: Path, tool: Callable[[str], str]) -> None:
    done = subprocess.run(
        [tool("e2fsck"), "-fn", raw], capture_output=True, text=True, timeout=100, check=False
    )
    # With -n e2fsck answers some questions "no" and still ends with 0.
    assert (done.returncode, "? no" in done.stdout) == (0, False), done.stdout
    assert "recovering journal" not in done.stdout + done.stderr


def _flatten(scratch: Path, disks: tuple[Path, ...], raw: Path) -> None:
    backing = None
    for disk in (*disks, scratch):
        file = {"driver": "file", "filename": os.fspath(disk)}
        backing = {"driver": "vmdk", "file": file, "backing": backing}
    source = "json:" + json.dumps(backing)
    subprocess.run(["qemu-img", "convert", "-O", "raw", source, raw], check=True, timeout=100)


def _debugfs(tool: Callable[[str], str], raw: Path, request: str) -> bytes:
    return subprocess.run(
        [tool("debugfs"), "-R", request, raw], capture_output=True, timeout=100, check=True
    ).stdout


def _beginning(tool: Callable[[str], str], raw: Path, path: str) -> bytes:
    """Return the first MiB of a file on the disk, as debugfs finds it."""
    with subprocess.Popen(
        [tool("debugfs"), "-R", f"cat {path}", raw],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        data = process.stdout.read(MARK_BYTES)
        process.kill()
    return data


@pytest.mark.vm
@pytest.mark.parametrize("size_gib", SIZES_GIB)
def test_online_at_boot(
    tool: Callable[[str], str], bundle: Path, boot_store: Path, tmp_path: Path, size_gib: int
) -> None:
    (boot,) = (boot_store / "boot").glob("*/boot.json")
    chain = read_bundle(bundle)
    spec = machine_spec(
        root_of_bundle(chain),
        load_boot_image(boot.parent),
        RunConfig(args=("sh", "-c", FILL, "fill", f"{size_gib << 10}")),
        memory_mib=256,
        cpus=1,
        channel=Channel.VIRTIO_SERIAL,
        disk_bytes=size_gib * GIB,
    )
    outcome = run_to_end(spec, tmp_path)
    said = outcome.stdout.decode().split()
    assert outcome.status == ExitStatus(0), outcome.stderr
    assert len(said) == 4, said
    total_kib, full, free_kib, files = said
    assert (full, free_kib) == ("full", "0")
    assert 0.95 * size_gib < int(total_kib) / (1 << 20) <= size_gib

    raw = tmp_path / "after.raw"
    scratch = outcome.folder / "scratch.vmdk"
    # What was filled was mostly allocated, not written. Inode tables above all must not have been:
    # there are 2 MiB of them for each 128 MiB.
    assert scratch.stat().st_blocks * 512 < (int(files) + 80) * MARK_BYTES
    _flatten(scratch, chain.disks, raw)
    assert raw.stat().st_size == size_gib * GIB
    _check(raw, tool)
    old_end = CHAIN_GIB * GIB // BLOCK
    beyond = 0
    for number in range(int(files)):
        # What was written is there, also where the blocks lie beyond the old end.
        expected = (f"{number}\n".encode() * MARK_BYTES)[:MARK_BYTES]
        assert _beginning(tool, raw, f"/fill/{number}") == expected
        beyond += int(_debugfs(tool, raw, f"bmap /fill/{number} 0")) >= old_end
    assert beyond >= 2
    assert b"second layer" in _debugfs(tool, raw, "cat /etc/release")


def test_a_size_that_is_none(saltflat: Saltflat, bundle: Path, store: Path) -> None:
    for option, code, what in (
        ("size=1G", 125, b"smaller than the chain"),
        ("size=3T", 125, b"more than a VMDK can have"),
        ("size=x", 125, b"is not a size"),
        ("colour=red", 125, b"'colour=red' is not known"),
    ):
        done = saltflat("run", "--store", store, "--storage-opt", option, bundle, "sh")
        assert done.returncode == code
        assert what in done.stderr


@contextmanager
def _mounted(raw: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop,ro,noload", raw, folder], check=True, timeout=60)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


@pytest.mark.root
@pytest.mark.parametrize("journal", ["--journal", "--no-journal"])
def test_offline_by_resize2fs(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    corner_layout: Path,
    tmp_path: Path,
    journal: str,
) -> None:
    options = ["--store", tmp_path / "store", "--format", "json", journal]
    result = json.loads(saltflat.good("convert", *options, f"oci:{corner_layout}:latest"))
    flat = tmp_path / "flat.raw"
    top = result["links"][-1]["file"]
    subprocess.run(["qemu-img", "convert", "-O", "raw", top, flat], check=True, timeout=60)
    assert flat.stat().st_size == CHAIN_GIB * GIB
    with _mounted(flat, tmp_path / "before") as mount:
        before = read_tree(mount)
    for size_gib in SIZES_GIB:
        raw = tmp_path / f"{size_gib}.raw"
        subprocess.run(["cp", "--sparse=always", flat, raw], check=True, timeout=60)
        os.truncate(raw, size_gib * GIB)
        done = subprocess.run(
            [tool("resize2fs"), raw], capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.returncode, "? no" in done.stdout) == (0, False), done.stdout + done.stderr
        assert f"is now {size_gib * GIB // BLOCK} (4k) blocks long" in done.stdout + done.stderr
        _check(raw, tool)
        with _mounted(raw, tmp_path / f"{size_gib}") as mount:
            assert read_tree(mount) == before
            free = shutil.disk_usage(mount).total
        assert 0.95 * size_gib * GIB < free
        raw.unlink()
