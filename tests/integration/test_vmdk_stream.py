"""QEMU reads streamOptimized disks of ours: alone, and as children of one another."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.vmdk.descriptor import ParentRef
from converter.vmdk.stream import GRAIN_BYTES, StreamWriter

pytestmark = pytest.mark.integration

GRAINS = 1100  # three tables
_CID = 0xC0DE0000


def test_a_chain_of_streams_reads_as_it_was_written(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Random grains, zeros that hide a parent's among them, in three links."""
    qemu_img = tool("qemu-img")
    rng = random.Random(7)
    disk = bytearray(GRAINS * GRAIN_BYTES)
    for number in range(3):
        name = f"link{number}.vmdk"
        with (tmp_path / name).open("xb", buffering=0) as file:
            writer = StreamWriter(
                file,
                capacity_bytes=len(disk),
                cid=_CID + number,
                long_content_id=f"{_CID + number:032x}",
                parent=ParentRef(_CID + number - 1, f"link{number - 1}.vmdk") if number else None,
                file_name=name,
            )
            for grain in sorted(rng.sample(range(GRAINS), 200)):
                content = rng.choice((bytes(GRAIN_BYTES), rng.randbytes(GRAIN_BYTES), b"\1"))
                content = content.ljust(GRAIN_BYTES, b"\0")
                writer.write(grain * GRAIN_BYTES, content)
                disk[grain * GRAIN_BYTES : (grain + 1) * GRAIN_BYTES] = content
            writer.finish()
        subprocess.run([qemu_img, "check", tmp_path / name], check=True, capture_output=True)
        flat = tmp_path / "flat"
        command = [qemu_img, "convert", "-f", "vmdk", "-O", "raw", tmp_path / name, flat]
        subprocess.run(command, check=True, timeout=60)
        assert flat.read_bytes() == disk
