"""A damaged file system is read or refused: IntegrityError, soon, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.compare import compare_tree
from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.check import check_filesystem
from converter.ext4.geometry import Geometry
from tests.unit.ext4.disks import CAPACITY, MemoryDisk, expected, paths, samples

DISK = MemoryDisk(*samples())
GOOD = bytes(DISK.data)
EXPECTED = expected(*samples())
GEOMETRY = Geometry(CAPACITY)
BLOCK = c.BLOCK_SIZE
# What is in use and not zero, in pieces of 64 bytes, so that damage seldom falls into emptiness.
PIECE = 64
USED = [at for at in range(0, CAPACITY, PIECE) if GOOD[at : at + PIECE].strip(b"\0")]
# Every bit of these has one right value: they follow from the tree, or carry a checksum of it.
# Label and hash seed stand for themselves on a disk too small for copies of the superblock.
DETERMINED = [
    *(
        c.SUPERBLOCK_OFFSET + at
        for at in range(c.SUPERBLOCK_SIZE)
        if not (0x78 <= at < 0x88 or 0xEC <= at < 0xFC)
    ),
    *range(BLOCK, BLOCK + GEOMETRY.groups * c.GROUP_DESC_SIZE),
    *range(GEOMETRY.block_bitmaps[0] * BLOCK, (GEOMETRY.block_bitmaps[0] + 1) * BLOCK),
    *range(GEOMETRY.inode_bitmaps[0] * BLOCK, (GEOMETRY.inode_bitmaps[0] + 1) * BLOCK),
    *range(GEOMETRY.journal_start * BLOCK, GEOMETRY.journal_start * BLOCK + 1024),
]


def _judge() -> None:
    """Check, compare and read everything, as a careless caller would, too."""
    reader = DISK.reader()
    try:
        compare_tree(EXPECTED, reader)
    finally:
        try:
            check_filesystem(reader)
        finally:
            for entry in paths(reader).values():
                if entry.size <= CAPACITY:
                    for _ in entry.data:
                        pass


def _damage(at: int, value: bytes) -> None:
    DISK.write(at, value)
    try:
        _judge()
    except IntegrityError:
        pass
    finally:
        DISK.write(at, GOOD[at : at + len(value)])


def test_the_sound_one_is_accepted() -> None:
    _judge()


@settings(max_examples=100, deadline=2000)
@given(st.sampled_from(USED), st.integers(0, PIECE - 1), st.binary(min_size=1, max_size=8))
def test_random_bytes_anywhere(piece: int, offset: int, value: bytes) -> None:
    _damage(min(piece + offset, CAPACITY - len(value)), value)


@settings(max_examples=60, deadline=2000)
@given(st.sampled_from(USED), st.sampled_from(USED))
def test_pieces_in_the_place_of_others(source: int, target: int) -> None:
    source -= source % 256  # whole inodes, group descriptors, directory entries
    target -= target % 256
    _damage(target, GOOD[source : source + 256])


@settings(max_examples=60, deadline=2000)
@given(st.sampled_from(DETERMINED), st.integers(0, 7))
def test_no_bit_of_what_is_determined_can_change(at: int, bit: int) -> None:
    DISK.write(at, bytes([GOOD[at] ^ 1 << bit]))
    try:
        with pytest.raises(IntegrityError):
            check_filesystem(DISK.reader())
    finally:
        DISK.write(at, GOOD[at : at + 1])


# Of /etc/passwd, which is one run of blocks.
CONTENT = range(GOOD.index(b"root:x:0:0\n" * 900), GOOD.index(b"root:x:0:0\n" * 900) + 900 * 11)


@settings(max_examples=50, deadline=2000)
@given(st.sampled_from(CONTENT), st.integers(1, 255))
def test_no_byte_of_a_file_can_change_unnoticed(at: int, change: int) -> None:
    DISK.write(at, bytes([GOOD[at] ^ change]))
    try:
        with pytest.raises(IntegrityError, match="other content"):
            compare_tree(EXPECTED, DISK.reader())
    finally:
        DISK.write(at, GOOD[at : at + 1])
