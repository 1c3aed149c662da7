"""Disks with any tree on them, made without root: what a guest starts from, and used volumes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from converter.ext4.c_ext4 import BLOCK_SIZE
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import Geometry
from converter.ext4.superblock import Identity
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer
from converter.vmdk.scratch import write_disk
from tests.guests import disk


def file(path: str, content: bytes = b"content\n", **fields: object) -> Entry:
    """Return the entry of a regular file."""
    data = [memoryview(content)]
    return Entry(path.encode(), Kind.FILE, size=len(content), data=data, **fields)  # type: ignore[arg-type]  # fields pass through


def folder(path: str, mode: int = 0o755, **fields: object) -> Entry:
    """Return the entry of a folder."""
    return Entry(path.encode(), Kind.DIRECTORY, mode=mode, **fields)  # type: ignore[arg-type]  # as above


def symlink(path: str, target: str, **fields: object) -> Entry:
    """Return the entry of a symbolic link."""
    return Entry(path.encode(), Kind.SYMLINK, 0o777, target=target.encode(), **fields)  # type: ignore[arg-type]  # as above


def busybox() -> list[Entry]:
    """Return what tests/guests/disk.py has: busybox, its applets, two users."""
    program = shutil.which("busybox")
    assert program is not None
    return [
        *(folder(name) for name in ("bin", "etc", "tmp", "srv")),
        file("bin/busybox", Path(program).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in disk.APPLETS),
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n"),
        file("etc/group", b"root:x:0:\napp:x:1000:\n"),
    ]


def write_tree(path: Path, entries: Iterable[Entry], *, uuid: str, capacity_bytes: int) -> Path:
    """Make a writable disk with these entries in `path`, and return that."""
    seed = hashlib.sha256(uuid.encode()).digest()[:16]
    identity = Identity(UUID(uuid).bytes, seed)
    filesystem = FileSystem.create(Geometry(capacity_bytes), identity)
    changes = apply_layer(filesystem.tree, entries, filesystem.allocator)
    with path.open("xb", buffering=0) as target:
        write_disk(
            target,
            capacity_bytes=capacity_bytes,
            cid=1,
            writes=(
                (block * BLOCK_SIZE, data)
                for block, data in write_layer(filesystem, changes, first=True)
            ),
            file_name=path.name,
        )
    return path
