"""Disks of boot media as bytes: read out of a VMDK, and written as one."""

from __future__ import annotations

import io
from pathlib import Path

from converter.vmdk.chain import open_chain
from converter.vmdk.stream import StreamWriter


def disk_of(path: Path) -> bytes:
    """Return the disk that the VMDK at `path` holds."""
    with open_chain(path) as chain:
        return chain.read(0, chain.capacity_bytes)


def streamed(disk: bytes) -> bytes:
    """Return a disk as streamOptimized."""
    made = io.BytesIO()
    writer = StreamWriter(
        made,
        capacity_bytes=len(disk),
        cid=1,
        long_content_id="0" * 24 + "00000001",
        parent=None,
        file_name="boot-stream.vmdk",
    )
    writer.write(0, disk)
    writer.finish()
    return made.getvalue()
