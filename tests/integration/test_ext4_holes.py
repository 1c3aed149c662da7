"""Files with holes in the file system itself: every depth of extent tree, under e2fsck's eyes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.ext4.inode import extent_blocks_needed
from converter.layer.entry import Entry, Kind, Segments
from converter.layer.tar import MAX_FILE_BYTES
from tests.integration.test_ext4_fsck import MIB, Disk

pytestmark = pytest.mark.integration

BLOCK = 4096


def _sparse(path: bytes, size: int, segments: Segments) -> Entry:
    content = b"".join(_stored(number, length) for number, (_, length) in enumerate(segments))
    return Entry(path, Kind.FILE, size=size, data=[memoryview(content)], segments=segments)


def _content(size: int, segments: Segments) -> bytes:
    content = bytearray(size)
    for number, (offset, length) in enumerate(segments):
        content[offset : offset + length] = _stored(number, length)
    return bytes(content)


def _stored(number: int, length: int) -> bytes:
    return (b"%08d" % number * (1 + length // 8))[:length]


@pytest.mark.parametrize("count", [4, 5, 340, 341, 1360, 1361, 3000])
def test_extent_trees_of_every_depth(
    tmp_path: Path, tool: Callable[[str], str], count: int
) -> None:
    disk = Disk(tmp_path / "disk", 256 * MIB)
    segments = tuple((at * 3 * BLOCK + 700, BLOCK) for at in range(count))  # two blocks each
    size = count * 3 * BLOCK
    disk.apply([_sparse(b"holes", size, segments), Entry(b"after", Kind.FILE)])
    disk.check(tool("e2fsck"))
    dump = [tool("debugfs"), "-R", "cat /holes", str(tmp_path / "disk")]
    found = subprocess.run(dump, capture_output=True, timeout=60, check=True).stdout
    assert found == _content(size, segments)
    disk.reload()
    before = sum(disk.filesystem.allocator.free_blocks)
    disk.apply([Entry(b"holes", Kind.WHITEOUT)])
    freed = sum(disk.filesystem.allocator.free_blocks) - before
    assert freed == 2 * count + extent_blocks_needed(count)
    disk.check(tool("e2fsck"))


def test_segments_that_share_a_block_and_pieces_of_any_size(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    segments = ((100, 10), (200, 4000), (5000, 1), (4 * BLOCK, 1), (9 * BLOCK - 1, 2 * BLOCK))
    size = 12 * BLOCK + 5
    entry = _sparse(b"f", size, segments)
    whole = b"".join(bytes(view) for view in entry.data)
    pieces = [memoryview(whole[at : at + 7]) for at in range(0, len(whole), 7)]
    disk.apply([entry._replace(data=pieces)])
    disk.check(tool("e2fsck"))
    dump = [tool("debugfs"), "-R", "cat /f", str(tmp_path / "disk")]
    found = subprocess.run(dump, capture_output=True, timeout=60, check=True).stdout
    assert found == _content(size, segments)


def test_the_largest_file_takes_only_the_blocks_that_it_has(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    disk.apply([_sparse(b"huge", MAX_FILE_BYTES, ((MAX_FILE_BYTES - 1, 1),))])
    disk.check(tool("e2fsck"))
