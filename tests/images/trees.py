"""What is in a file tree, as the kernel tells it: the form in which trees are compared.

The kernel reads both sides, so nothing of the converter is its own judge.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One name: its inode's attributes and what it holds."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    size: int
    links: int
    same_file_as: bytes  # the first name of its inode, in byte order
    content: str  # sha256 of a file, text of a link
    xattrs: tuple[tuple[str, bytes], ...]


def read_tree(root: Path) -> dict[bytes, Node]:
    """Return every name below `root` and the root itself (b"")."""
    base = os.fsencode(root)
    first_names: dict[tuple[int, int], bytes] = {}
    tree = {}
    for path in sorted(_walk(base)):
        status = os.lstat(path)
        name = path[len(base) + 1 :]
        kind = stat.S_IFMT(status.st_mode)
        directory = kind == stat.S_IFDIR
        first = first_names.setdefault((status.st_dev, status.st_ino), name)
        tree[name] = Node(
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_rdev if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
            0 if directory else status.st_size,
            0 if directory else status.st_nlink,
            b"" if directory else first,
            _content(path, kind),
            tuple(
                (xattr, os.getxattr(path, xattr, follow_symlinks=False))
                for xattr in sorted(os.listxattr(path, follow_symlinks=False))
            ),
        )
    return tree


def _walk(base: bytes) -> Iterator[bytes]:
    yield base
    for folder, directories, files in os.walk(base):
        for name in directories + files:
            yield os.path.join(folder, name)  # noqa: PTH118 - names that are no text


def _content(path: bytes, kind: int) -> str:
    if kind == stat.S_IFLNK:
        return os.fsdecode(os.readlink(path))  # noqa: PTH115 - as above
    if kind != stat.S_IFREG:
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(
    expected: dict[bytes, Node], actual: dict[bytes, Node], *, unpacked_ns: int
) -> list[str]:
    """List in which names and fields the trees differ.

    An unpacker leaves the present time on folders that it put something into after their own entry,
    and on those without an entry. `unpacked_ns` is when it began: no folder of an image is younger.
    """
    found = [f"{name!r} is missing" for name in sorted(expected.keys() - actual.keys())]
    found += [f"{name!r} is not in the image" for name in sorted(actual.keys() - expected.keys())]
    for name in sorted(expected.keys() & actual.keys()):
        touched = stat.S_ISDIR(expected[name].mode) and expected[name].mtime_ns >= unpacked_ns
        for field in Node.__dataclass_fields__:
            want, have = getattr(expected[name], field), getattr(actual[name], field)
            if want != have and not (field == "mtime_ns" and touched):
                found.append(f"{name!r}: {field} is {have!r}, expected {want!r}")
    return found


@contextmanager
def mounted(disk: Path, folder: Path, work: Path) -> Iterator[Path]:
    """Yield `folder`, on which the kernel has mounted the flattened chain under `disk`. As root."""
    raw = work / "flat.raw"
    subprocess.run(
        ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", disk, raw], check=True, timeout=120
    )
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro,noload", raw, folder], check=True, timeout=60)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)
        raw.unlink()
