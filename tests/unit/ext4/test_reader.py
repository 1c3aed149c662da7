"""What the writer wrote, the reader reads: attributes, content, names, and one order for all."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.check import check_filesystem
from converter.ext4.inode import encode_extents, encode_time
from converter.ext4.read_directory import read_directory
from converter.ext4.read_extents import Extent, read_extents
from converter.ext4.read_xattr import decode_xattrs
from converter.ext4.reader import decode_time
from converter.ext4.walk import Walk
from converter.ext4.xattr import encode_xattrs
from converter.layer.entry import Entry, Kind
from tests.unit.ext4.disks import MemoryDisk, file, paths, samples


def test_everything_that_was_written_is_read() -> None:
    base, top = samples()
    written = {entry.path: entry for entry in [*base, *top]}
    found = paths(MemoryDisk(base, top).reader())
    for path in (b"", *(path for path in written if path.startswith((b"etc", b"dev", b"many")))):
        want = written[path]
        if want.kind is Kind.HARDLINK:
            want = written[b"etc/passwd"]
        assert found[path]._replace(data=()) == want._replace(path=path, data=())
        assert b"".join(found[path].data) == b"".join(want.data)
    assert b"gone" not in found
    assert found[b"a/b"]._replace(data=()) == Entry(b"a/b", Kind.DIRECTORY)


def test_names_come_in_byte_order_and_a_directory_before_what_is_in_it() -> None:
    walk = Walk(MemoryDisk(*samples()).reader())
    found = [walk.path(directory, name) for directory, name, _ in walk]
    assert found[:5] == [b"", b"a", b"dev", b"etc", b"many"]
    assert found.index(b"a/b/c") < found.index(b"a/b/c/d") < found.index(b"dev/null")
    assert sorted(found) == sorted(set(found))


def test_names_of_one_file_are_one_inode() -> None:
    walk = Walk(MemoryDisk(*samples()).reader())
    nodes = {walk.path(directory, name): inode.node for directory, name, inode in walk}
    assert nodes[b"etc/passwd"] == nodes[b"etc/again"] == nodes[b"etc/third"]


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_the_writer_writes_is_sound(journal: bool, count: int) -> None:
    disk = MemoryDisk([], *samples()[:count], journal=journal)
    report = check_filesystem(disk.reader())
    assert report.names == {0: 0, 1: 315, 2: 318}[count]
    assert report.directories == {0: 1, 1: 5, 2: 7}[count]


def test_trees_deeper_than_python_recurses_are_walked() -> None:
    disk = MemoryDisk([file(b"/".join([b"d"] * 2000) + b"/leaf")])
    assert check_filesystem(disk.reader()).directories == 2001
    walk = Walk(disk.reader())
    longest = max(len(walk.path(directory, name)) for directory, name, _ in walk)
    assert longest == 2 * 2000 + 4


@pytest.mark.parametrize("mib", [129, 600])
def test_extents_in_leaves(mib: int) -> None:
    """Runs end at 32768 blocks, so a tree of leaves takes a large file or, as here, many runs."""
    runs = [(1000 + 2 * number, 1) for number in range(mib)]
    leaves = [7 + number for number in range(-(-mib // c.EXTENTS_PER_BLOCK))]
    i_block, nodes = encode_extents(runs, leaves)
    blocks = dict(zip(leaves, nodes, strict=True))
    found = read_extents(i_block, disk_blocks=1 << 20, read_block=blocks.__getitem__)
    assert found.extents == tuple(
        Extent(number, length, start) for number, (start, length) in enumerate(runs)
    )
    assert found.nodes == tuple(leaves)
    assert (found.blocks, found.end) == (mib + len(leaves), mib)


def _damaged(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"\0", "magic number"),
        (2, b"\5", "5 of 4 entries"),
        (4, b"\5", "of 5 entries"),
        (6, b"\1", "0 of 340 entries|leads to block|has the depth|magic"),
        (6, b"\3", "4 levels"),
        (16, b"\0\0", "length 0"),
        (16, b"\1\x80", "length 32769"),
        (18, b"\1", "lies at block"),
        (20, b"\0\0\0\0", "lies at block 0"),
        (20, b"\xff\xff", "lies at block"),
        (24, b"\1", "overlap or are out of order"),
        (40, b"\1", "behind its entries"),
    ],
)
def test_extents_that_may_not_be(at: int, value: bytes, message: str) -> None:
    i_block, _ = encode_extents([(100, 5), (200, 5)], [])
    blank = bytes(c.BLOCK_SIZE)
    with pytest.raises(IntegrityError, match=message):
        read_extents(
            _damaged(i_block, at, value), disk_blocks=1000, read_block=lambda _number: blank
        )


def test_a_tree_that_leads_to_itself_ends() -> None:
    header = c.EXTENT_HEADER.pack(c.EXT4_EXT_MAGIC, 2, c.EXTENTS_PER_BLOCK, 1, 0)
    node = header + c.EXTENT_IDX.pack(0, 5, 0, 0) + c.EXTENT_IDX.pack(1, 5, 0, 0)
    root = c.EXTENT_HEADER.pack(c.EXT4_EXT_MAGIC, 1, c.EXTENTS_IN_INODE, 2, 0)
    root += c.EXTENT_IDX.pack(0, 5, 0, 0)
    with pytest.raises(IntegrityError, match="has the depth 1"):
        read_extents(
            root.ljust(60, b"\0"),
            disk_blocks=10,
            read_block=lambda _number: node.ljust(c.BLOCK_SIZE, b"\0"),
        )


def _block(*entries: tuple[int, bytes, int, int | None]) -> bytes:
    """Pack a directory block of (inode, name, file type, rec_len; None to the end of the block)."""
    block = b""
    for inode, name, file_type, length in entries:
        reach = length or c.BLOCK_SIZE - len(block)
        head = c.DIR_ENTRY.pack(inode, reach, len(name), file_type)
        block += (head + name).ljust(reach, b"\0")
    return block


DOTS = ((9, b".", 2, 12), (2, b"..", 2, 12))


def test_deleted_entries_are_no_names() -> None:
    block = _block(
        *DOTS, (0, b"old", 1, 12), (30, b"b", 1, 12), (31, b"a", 7, 100), (0, b"", 0, None)
    )
    assert [name[:2] for name in read_directory([block], 9, 2)] == [(b"a", 31), (b"b", 30)]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((*DOTS, (30, b"a", 1, 12), (31, b"a", 1, None)), "twice"),
        ((*DOTS, (30, b"a/b", 1, None)), "name b'a/b'"),
        ((*DOTS, (30, b"a\0", 1, None)), "the name"),
        ((*DOTS, (30, b"..", 2, None)), r"name b'\.\.'"),
        ((*DOTS, (30, b"", 1, None)), "name b''"),
        ((*DOTS, (30, b"socket", 6, None)), "file type 6"),
        ((*DOTS, (30, b"a", 8, None)), "file type 8"),
        ((*DOTS, (30, b"long", 1, 8)), "rec_len of 8"),
        ((*DOTS, (30, b"a", 1, 14)), "rec_len of 14"),
        ((*DOTS, (30, b"a", 1, 8192)), "rec_len of 8192"),
        ((*DOTS, (30, b"a", 1, 4068), (0, b"", 0, 4)), "ends at byte 4092"),
        (((9, b".", 2, 12), (3, b"..", 2, None)), "its parent"),
        (((9, b"..", 2, 12), (2, b".", 2, None)), "its parent"),
        (((9, b".", 2, None),), "its parent"),
    ],
)
def test_directories_that_may_not_be(
    entries: tuple[tuple[int, bytes, int, int | None], ...], message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_directory([_block(*entries)[: c.BLOCK_SIZE]], 9, 2)


def test_attributes_come_back_from_inode_and_block() -> None:
    attributes = tuple(
        sorted((b"user.%c" % letter, b"v" * (letter - 96) * 9) for letter in b"abcdefgh")
    )
    in_inode, block = encode_xattrs(attributes, b"it")
    assert in_inode
    assert block
    assert decode_xattrs(in_inode, block) == attributes


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"\1", "magic number"),
        (4, b"\2", "shared"),
        (33, b"\x09", "name index 9"),
        (34, b"\xff\xff", "out of bounds"),
        (34, b"\x08\0", "out of bounds"),
        (36, b"\1", "out of bounds"),
        (40, b"\xff\xff", "out of bounds"),
    ],
)
def test_attribute_blocks_that_may_not_be(at: int, value: bytes, message: str) -> None:
    _, block = encode_xattrs(((b"user.big", b"v" * 500),), b"it")
    with pytest.raises(IntegrityError, match=message):
        decode_xattrs(b"", _damaged(block, at, value))


@pytest.mark.parametrize(
    "nanoseconds",
    [0, -1, 1, -(2**31) * 10**9, 2**31 * 10**9, 2**32 * 10**9 + 5, (2**34 - 2**31) * 10**9 - 1],
)
def test_times_come_back(nanoseconds: int) -> None:
    assert decode_time(*encode_time(nanoseconds)) == nanoseconds
