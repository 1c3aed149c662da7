"""The comparison of a disk with layers: one difference at a time, on disks in memory."""

from __future__ import annotations

import hashlib
import struct

import pytest

from converter.compare import compare_tree, content_digest
from converter.errors import IntegrityError
from converter.layer.entry import Entry, Kind
from tests.unit.ext4.disks import ACL, MemoryDisk, expected, file, samples

TIME = 1_000_000_007


def test_equal_trees_are_equal() -> None:
    report = compare_tree(expected(*samples()), MemoryDisk(*samples()).reader())
    assert report.names == 318
    assert report.content_bytes > 900 * 11


BASE = (
    Entry(b"d", Kind.DIRECTORY, mtime_ns=TIME),
    file(b"d/one", b"1", xattrs=((b"user.x", b"1"),)),
    file(b"d/two", b"2"),
    Entry(b"d/also-two", Kind.HARDLINK, target=b"d/two"),
    Entry(b"d/link", Kind.SYMLINK, mode=0o777, target=b"one"),
    Entry(b"d/device", Kind.BLOCK, major=8, minor=1),
)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ([file(b"d/three")], "b'd/three' is missing"),
        ([Entry(b"d/one", Kind.WHITEOUT)], r"b'd/one' \(inode \d+\) is not in the image"),
        ([Entry(b"d", Kind.WHITEOUT)], r"b'd' \(inode \d+\) is not in the image"),
        ([file(b"d/one", b"!", xattrs=((b"user.x", b"1"),))], "d/one.* has other content"),
        ([file(b"d/one", b"11", xattrs=((b"user.x", b"1"),))], "d/one.* has the size 1"),
        ([file(b"d/one", b"1", xattrs=((b"user.x", b"2"),))], r"attribute b'user.x' b'1'"),
        ([file(b"d/one", b"1")], r"attribute b'user.x' b'1'"),
        ([file(b"d/one", b"1", xattrs=((b"user.x", b"1"), (b"user.y", b"")))], "b'user.y' None"),
        ([Entry(b"", Kind.DIRECTORY, mode=0o700)], r"the root \(inode 2\) has the mode 0o755"),
        ([Entry(b"d", Kind.DIRECTORY, mtime_ns=0)], f"the mtime_ns {TIME}"),
        ([Entry(b"d/link", Kind.SYMLINK, mode=0o777, target=b"two")], "the target b'one'"),
        ([Entry(b"d/link", Kind.FIFO)], "the kind symlink"),
        ([Entry(b"d/device", Kind.CHARACTER, major=8, minor=1)], "the kind block"),
        ([Entry(b"d/device", Kind.BLOCK, major=8, minor=2)], "the minor 1"),
        ([file(b"d/also-two", b"2")], "d/also-two.* has 2 names"),
        ([Entry(b"d/three", Kind.HARDLINK, target=b"d/two")], "d/also-two.* has 2 names"),
    ],
)
def test_each_difference_is_named(layer: list[Entry], message: str) -> None:
    disk = MemoryDisk(BASE)
    with pytest.raises(IntegrityError, match=message):
        compare_tree(expected(BASE, layer), disk.reader())


def _pairs(*pairs: tuple[bytes, bytes]) -> list[Entry]:
    files = [file(target, b"same") for target in dict(pairs)]
    return files + [Entry(name, Kind.HARDLINK, target=target) for target, name in pairs]


def test_names_have_to_be_of_the_right_file_among_equal_ones() -> None:
    disk = MemoryDisk(_pairs((b"a", b"c"), (b"b", b"d")))
    with pytest.raises(IntegrityError, match=r"b'c' .* is the same file as a name that is another"):
        compare_tree(expected(_pairs((b"a", b"d"), (b"b", b"c"))), disk.reader())
    disk = MemoryDisk(_pairs((b"a", b"c"), (b"b", b"d")))
    with pytest.raises(IntegrityError, match=r"b'b' .* is not the same file as a name that is"):
        compare_tree(expected(_pairs((b"a", b"b"), (b"c", b"d"))), disk.reader())


def test_what_ext4_cannot_keep_is_no_difference() -> None:
    ids = struct.pack("<IHHI", 2, 1, 6, 4711) + ACL[12:]  # an owner's entry has no id
    layer = [
        file(b"late", mtime_ns=2**40 * 10**9),
        file(b"acl", xattrs=((b"system.posix_acl_access", ids),)),
    ]
    compare_tree(expected(layer), MemoryDisk(layer).reader())


def _sparse(size: int, *segments: tuple[int, bytes]) -> Entry:
    return Entry(
        b"sparse",
        Kind.FILE,
        size=size,
        data=[memoryview(data) for _, data in segments],
        segments=tuple((offset, len(data)) for offset, data in segments),
    )


SPARSE = _sparse(1 << 30, (100, b"a" * 50), (9000, b"b" * 5000), (1 << 29, b"c"))


def test_a_file_with_holes_is_compared_without_reading_them() -> None:
    disk = MemoryDisk([SPARSE])
    compare_tree(expected([SPARSE]), disk.reader())
    # The same blocks with the same bytes in them, said otherwise.
    same = _sparse(
        1 << 30, (0, bytes(100) + b"a" * 50), (8192, bytes(808) + b"b" * 5000), (1 << 29, b"c\0")
    )
    compare_tree(expected([same]), disk.reader())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (_sparse(1 << 30, (100, b"a" * 50), (9000, b"b" * 5000), (1 << 29, b"C")), "other content"),
        (_sparse(1 << 30, (100, b"a" * 50), (9000, b"b" * 5000), (1 << 28, b"c")), "its holes"),
        (_sparse(1 << 29, (100, b"a" * 50), (9000, b"b" * 5000)), "the size"),
        (_sparse(1 << 30), "its holes"),
    ],
)
def test_holes_and_what_is_between_them_count(other: Entry, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        compare_tree(expected([other]), MemoryDisk([SPARSE]).reader())


def test_zeros_are_no_hole() -> None:
    zeros = file(b"sparse", bytes(1 << 20))
    holes = _sparse(1 << 20)
    compare_tree(expected([zeros]), MemoryDisk([zeros]).reader())
    compare_tree(expected([holes]), MemoryDisk([holes]).reader())
    for one, other in ((zeros, holes), (holes, zeros)):
        with pytest.raises(IntegrityError, match="its holes"):
            compare_tree(expected([one]), MemoryDisk([other]).reader())


def test_the_digest_is_that_of_whole_blocks() -> None:
    assert content_digest(file(b"x", b"abc")) == hashlib.sha256(b"abc" + bytes(4093)).digest()
    assert content_digest(file(b"x", b"")) == hashlib.sha256().digest()
