"""Encoders against values worked out by hand from the kernel's documentation."""

from __future__ import annotations

import struct

import pytest

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.directory import encode_block, encode_first_block, pack_names
from converter.ext4.inode import (
    Inode,
    decode_inline_extents,
    encode_extents,
    encode_time,
    extent_blocks_needed,
)
from converter.ext4.xattr import encode_xattrs
from converter.layer.entry import Entry, Kind

SECOND = 10**9


@pytest.mark.parametrize(
    ("nanoseconds", "low", "epoch", "fraction"),
    [
        (0, 0, 0, 0),
        (-1 * SECOND, 0xFFFFFFFF, 0, 0),
        (-(2**31) * SECOND, 0x80000000, 0, 0),
        ((2**31) * SECOND, 0x80000000, 1, 0),
        ((2**32) * SECOND + 5, 0, 1, 5),
        ((2**34 - 2**31 - 1) * SECOND + 999_999_999, 0x7FFFFFFF, 3, 999_999_999),
        ((2**40) * SECOND, 0x7FFFFFFF, 3, 999_999_999),  # later than ext4 knows: the latest
        (-(2**40) * SECOND, 0x80000000, 0, 0),
    ],
)
def test_times_reach_from_1901_to_2446(
    nanoseconds: int, low: int, epoch: int, fraction: int
) -> None:
    assert encode_time(nanoseconds) == (low, fraction << 2 | epoch)


@pytest.mark.parametrize(
    ("major", "minor", "words"),
    [(1, 3, (0x103, 0)), (8, 255, (0x8FF, 0)), (259, 0, (0, 0x10300)), (8, 256, (0, 0x100800))],
)
def test_device_numbers(major: int, minor: int, words: tuple[int, int]) -> None:
    inode = Inode.of(Entry(b"d", Kind.BLOCK, major=major, minor=minor))
    assert struct.unpack("<II", inode.i_block.ljust(8, b"\0")) == words


def test_large_ids_are_split() -> None:
    inode = Inode.of(Entry(b"f", Kind.FILE, uid=0x12345678, gid=0xFFFFFFFE))
    assert (inode.i_uid, inode.l_i_uid_high) == (0x5678, 0x1234)
    assert (inode.i_gid, inode.l_i_gid_high) == (0xFFFE, 0xFFFF)


def test_extents_in_the_inode_and_in_leaves() -> None:
    runs = [(1000, 5), (2000, 7)]
    i_block, leaves = encode_extents(runs, [])
    assert len(i_block) == 60
    assert leaves == []
    assert decode_inline_extents(i_block) == runs
    many = [(number * 10, 3) for number in range(1, c.EXTENTS_PER_BLOCK + 3)]
    assert extent_blocks_needed(len(many)) == 2
    i_block, leaves = encode_extents(many, [77, 78])
    assert decode_inline_extents(i_block) is None
    assert [len(leaf) for leaf in leaves] == [4096, 4096]
    assert c.EXTENT_IDX.unpack_from(i_block, 24) == (c.EXTENTS_PER_BLOCK * 3, 78, 0, 0)


def _encode(names: dict[bytes, int]) -> bytes:
    first, *others = pack_names(names)
    return encode_first_block(12, 2, first, names) + b"".join(
        encode_block(block, names) for block in others
    )


def test_directory_entries_fill_their_blocks_to_the_end() -> None:
    names = {b"%04d" % number + b"x" * 200: number << 3 | 1 for number in range(20, 80)}
    content = _encode(names)
    assert len(content) % c.BLOCK_SIZE == 0
    found = {}
    for block in range(0, len(content), c.BLOCK_SIZE):
        at = block
        while at < block + c.BLOCK_SIZE:
            inode, length, name_length, kind = c.DIR_ENTRY.unpack_from(content, at)
            found[content[at + 8 : at + 8 + name_length]] = inode << 3 | kind
            at += length
        assert at == block + c.BLOCK_SIZE
    assert found == {b".": 12 << 3 | 2, b"..": 2 << 3 | 2, **names}


def test_directory_bytes_do_not_depend_on_insertion_order() -> None:
    names = {b"b": 20 << 3 | 1, b"a": 21 << 3 | 1}
    assert _encode(names) == _encode(dict(reversed(names.items())))


def test_small_attributes_stay_in_the_inode_and_large_ones_leave() -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    inside, block = encode_xattrs(((b"security.capability", capability),), b"f")
    assert inside.startswith(b"\x00\x00\x02\xea")
    assert capability in inside
    # Nobody checks the hash of an attribute in the inode, but the kernel writes none.
    assert c.XATTR_ENTRY.unpack_from(inside, c.XATTR_IBODY_HEADER.size)[-1] == 0
    assert block == b""
    inside, block = encode_xattrs(((b"user.big", b"v" * 500),), b"f")
    assert inside == b""
    assert len(block) == c.BLOCK_SIZE


NOBODY = 0xFFFFFFFF
OWNER, GROUP_OWNER, OTHERS = (1, 7, NOBODY), (4, 5, NOBODY), (0x20, 0, NOBODY)
MASK = (0x10, 7, NOBODY)
ACCESS = b"system.posix_acl_access"


def _acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_acls_lose_the_ids_that_ext4_does_not_keep() -> None:
    value = _acl(OWNER, (2, 5, 1000), GROUP_OWNER, (8, 1, 2000), MASK, OTHERS)
    inside, _ = encode_xattrs(((ACCESS, value),), b"f")
    stored = struct.pack(
        "<IHHHHIHHHHIHHHH", 1, 1, 7, 2, 5, 1000, 4, 5, 8, 1, 2000, 0x10, 7, 0x20, 0
    )
    assert stored in inside


@pytest.mark.parametrize("value", [_acl(OWNER, GROUP_OWNER, OTHERS), _acl()])
def test_an_access_acl_that_says_no_more_than_the_mode_is_not_kept(value: bytes) -> None:
    assert encode_xattrs(((ACCESS, value),), b"f") == (b"", b"")
    default, _ = encode_xattrs(((b"system.posix_acl_default", value),), b"d")
    assert bool(default) == (len(value) > 4)


@pytest.mark.parametrize(
    "value",
    [
        _acl(OWNER, (2, 5, 1000), GROUP_OWNER, OTHERS),  # no mask
        _acl(OWNER, OTHERS, GROUP_OWNER),
        _acl(OWNER, GROUP_OWNER, (8, 5, 1), (2, 5, 1), MASK, OTHERS),
        _acl(OWNER, OWNER, GROUP_OWNER, OTHERS),
        _acl(GROUP_OWNER, OTHERS),
        _acl(OWNER, GROUP_OWNER, MASK, MASK, OTHERS),
        _acl(OWNER, (2, 5, NOBODY), GROUP_OWNER, MASK, OTHERS),
        _acl(OWNER, (2, 8, 1), GROUP_OWNER, MASK, OTHERS),
        _acl(OWNER, GROUP_OWNER, OTHERS, (0x40, 0, NOBODY)),
        _acl(OWNER, GROUP_OWNER, OTHERS) + b"\0",
        b"\2\0\0",
    ],
)
def test_acls_that_linux_would_not_take_are_refused(value: bytes) -> None:
    with pytest.raises(IntegrityError, match="member 'f': It has a malformed POSIX ACL"):
        encode_xattrs(((ACCESS, value),), b"f")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (b"user.x", b"v" * 5000, "need"),
        (b"unknown.x", b"", "cannot store"),
        (b"user.", b"", "cannot store"),
        (b"user." + b"n" * 256, b"", "cannot store"),
        (b"system.posix_acl_access", b"\1\0\0\0", "malformed"),
        (b"system.posix_acl_access", b"", "malformed"),
    ],
)
def test_attributes_that_do_not_fit_are_named(name: bytes, value: bytes, message: str) -> None:
    with pytest.raises(SaltflatError, match=message):
        encode_xattrs(((name, value),), b"f")
