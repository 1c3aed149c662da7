"""We read what QEMU makes: every subformat that it has, as base and as child."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.vmdk.chain import Chain, open_chain

pytestmark = pytest.mark.integration

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)
FLAT = {"monolithicFlat", "twoGbMaxExtentFlat"}  # QEMU gives these no parent
GRAIN = 65536
SIZE = (4 << 30) + (64 << 20)  # three extents of 2 GiB at most
WINDOW = 1 << 20
# Whole grains, for QEMU writes nothing else to a stream; some over the borders of extents.
BASE = (
    (0, 2 * GRAIN, 1),
    ((2 << 30) - GRAIN, 2 * GRAIN, 2),
    ((4 << 30) - GRAIN, 2 * GRAIN, 3),
    (SIZE - GRAIN, GRAIN, 4),
)
CHILD = ((GRAIN, GRAIN, 5), (2 << 30, GRAIN, 6))

Tools = Callable[..., None]


@pytest.fixture
def tools(tool: Callable[[str], str], tmp_path: Path) -> Tools:
    programs = {name: tool(name) for name in ("qemu-img", "qemu-io")}

    def run(name: str, *arguments: str) -> None:
        command = [programs[name], *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def write(tools: Tools, name: str, writes: tuple[tuple[int, int, int], ...]) -> None:
    for offset, length, pattern in writes:
        tools("qemu-io", "-f", "vmdk", "-c", f"write -P {pattern} {offset} {length}", name)


def expect(chain: Chain, *layers: tuple[tuple[int, int, int], ...]) -> None:
    """See that the disk is these writes where they are and around them, and zeros elsewhere."""
    assert chain.capacity_bytes == SIZE
    seen = set()
    for begin in {write[0] // WINDOW * WINDOW for writes in layers for write in writes}:
        for at in (begin, min(begin + WINDOW, SIZE - GRAIN)):
            length = min(WINDOW, SIZE - at)
            window = bytearray(length)
            for writes in layers:
                for offset, size, pattern in writes:
                    first, last = max(offset, at), min(offset + size, at + length)
                    if first < last:
                        window[first - at : last - at] = bytes([pattern]) * (last - first)
            assert chain.read(at, length) == window
            seen.update(range(at // WINDOW, (at + length - 1) // WINDOW + 1))
    assert {offset // WINDOW for offset, _ in chain.grains()} <= seen


@pytest.mark.parametrize("kind", SUBFORMATS)
def test_a_base_that_qemu_made(kind: str, tools: Tools, tmp_path: Path) -> None:
    tools("qemu-img", "create", "-f", "vmdk", "-o", f"subformat={kind}", "base.vmdk", str(SIZE))
    write(tools, "base.vmdk", BASE)
    with open_chain(tmp_path / "base.vmdk") as chain:
        assert chain.links[0].descriptor.create_type == kind
        expect(chain, BASE)


@pytest.mark.parametrize("kind", [kind for kind in SUBFORMATS if kind not in FLAT])
def test_a_child_that_qemu_made(kind: str, tools: Tools, tmp_path: Path) -> None:
    base = next(other for other in reversed(SUBFORMATS) if other != kind)
    tools("qemu-img", "create", "-f", "vmdk", "-o", f"subformat={base}", "base.vmdk", str(SIZE))
    write(tools, "base.vmdk", BASE)
    options = ["-o", f"subformat={kind}", "-b", "base.vmdk", "-F", "vmdk"]
    tools("qemu-img", "create", "-f", "vmdk", *options, "child.vmdk")
    write(tools, "child.vmdk", CHILD)
    with open_chain(tmp_path / "child.vmdk") as chain:
        assert [link.descriptor.create_type for link in chain.links] == [base, kind]
        expect(chain, BASE, CHILD)


@pytest.mark.parametrize("kind", SUBFORMATS)
def test_a_disk_of_an_odd_size_that_qemu_converted(kind: str, tools: Tools, tmp_path: Path) -> None:
    disk = bytes(5 * GRAIN) + bytes(range(256)) * 800 + b"!" * 512
    (tmp_path / "disk.raw").write_bytes(disk)
    options = ["-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}"]
    tools("qemu-img", "convert", *options, "disk.raw", "disk.vmdk")
    with open_chain(tmp_path / "disk.vmdk") as chain:
        assert chain.read(0, chain.capacity_bytes) == disk
        assert chain.read(7 * GRAIN - 3, 9) == disk[7 * GRAIN - 3 :][:9]
