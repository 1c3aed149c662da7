"""The reader against the kernel: the same disk, mounted and read by our own code, is one tree."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.ext4.reader import Reader
from converter.ext4.walk import Walk
from converter.layer.entry import Entry, Kind
from converter.vmdk.chain import open_chain
from tests.images.trees import Node, differences, mounted, read_tree
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SYMLINK: stat.S_IFLNK,
}


def _our_tree(reader: Reader) -> dict[bytes, Node]:
    walk = Walk(reader)
    inodes = {walk.path(directory, name): inode for directory, name, inode in walk}
    first_names: dict[int, bytes] = {}
    tree = {}
    for path in sorted(inodes):
        inode = inodes[path]
        entry = reader.entry(inode)
        first = first_names.setdefault(inode.node, path)
        directory = entry.kind is Kind.DIRECTORY
        tree[path] = Node(
            _TYPES[entry.kind] | entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            os.makedev(entry.major, entry.minor),
            entry.size or len(entry.target),
            0 if directory else inode.fields.i_links_count,
            b"" if directory else first,
            _content(entry),
            tuple((name.decode(), value) for name, value in entry.xattrs),
        )
    return tree


def _content(entry: Entry) -> str:
    if entry.kind is not Kind.FILE:
        return os.fsdecode(entry.target)
    content = bytearray(entry.size)
    at = 0
    data = b"".join(entry.data)
    for offset, length in entry.segments if entry.segments is not None else [(0, entry.size)]:
        content[offset : offset + length] = data[at : at + length]
        at += length
    assert at == len(data)
    return hashlib.sha256(content).hexdigest()


def test_our_reader_and_the_kernel_see_the_same_tree(
    saltflat: Saltflat, tool: Callable[[str], str], corner_layout: Path, tmp_path: Path
) -> None:
    tool("qemu-img")
    convert = ["convert", "--store", tmp_path / "store", "--format", "json"]
    result = json.loads(saltflat.good(*convert, f"oci:{corner_layout}:latest"))
    top = Path(result["links"][-1]["file"])
    with mounted(top, tmp_path / "mount", tmp_path) as mount:
        theirs = read_tree(mount)
    with open_chain(top) as chain:
        ours = _our_tree(Reader(chain.read, chain.capacity_bytes))
    assert len(ours) > 400
    assert not differences(theirs, ours, unpacked_ns=2**80)
