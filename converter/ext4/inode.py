"""Inodes, extents and times as bytes. Pure functions over numbers; no allocation, no state.

Format: Documentation/filesystems/ext4, inodes.rst and ifork.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Run
from converter.layer.entry import SECOND_NS, Entry, Kind
from converter.layer.paths import show

_MODE_OF_KIND = {
    Kind.FILE: c.S_IFREG,
    Kind.DIRECTORY: c.S_IFDIR,
    Kind.CHARACTER: c.S_IFCHR,
    Kind.BLOCK: c.S_IFBLK,
    Kind.FIFO: c.S_IFIFO,
    Kind.SYMLINK: c.S_IFLNK,
}
KIND_OF_MODE = {mode: kind for kind, mode in _MODE_OF_KIND.items()}  # by the mode's file type
_EARLIEST = -(1 << 31)  # 1901: the low 32 bits are signed,
_LATEST = (1 << 34) - (1 << 31) - 1  # 2446: two more bits of seconds stand in the extra field
_MAX_32_BIT = 0xFFFFFFFF


def encode_time(nanoseconds: int) -> tuple[int, int]:
    """Return (seconds field, extra field) of a time since the epoch.

    Times that ext4 cannot hold become the nearest one that it can.
    """
    seconds, fraction = divmod(nanoseconds, SECOND_NS)
    if seconds < _EARLIEST:
        seconds, fraction = _EARLIEST, 0
    elif seconds > _LATEST:
        seconds, fraction = _LATEST, SECOND_NS - 1
    epoch = (seconds - _EARLIEST) >> 32
    return seconds & _MAX_32_BIT, fraction << 2 | epoch


class Inode(NamedTuple):
    """The fields of struct ext4_inode under its own names; `_replace` makes a changed one."""

    i_mode: int
    i_uid: int
    i_size_lo: int
    i_atime: int
    i_ctime: int
    i_mtime: int
    i_dtime: int
    i_gid: int
    i_links_count: int
    i_blocks_lo: int
    i_flags: int
    osd1: int
    i_block: bytes
    i_generation: int
    i_file_acl_lo: int
    i_size_high: int
    i_obso_faddr: int
    l_i_blocks_high: int
    l_i_file_acl_high: int
    l_i_uid_high: int
    l_i_gid_high: int
    l_i_checksum_lo: int
    l_i_reserved: int
    i_extra_isize: int
    i_checksum_hi: int
    i_ctime_extra: int
    i_mtime_extra: int
    i_atime_extra: int
    i_crtime: int
    i_crtime_extra: int
    i_version_hi: int
    i_projid: int

    @classmethod
    def of(
        cls,
        entry: Entry,
        *,
        links: int = 1,
        size: int = 0,
        blocks: int = 0,
        i_block: bytes = b"",
        extents: bool = False,
        xattr_block: int = 0,
    ) -> Inode:
        """Make the inode of `entry` with content as `with_content` has it; a device has its own.

        All four times are the entry's modification time, since a layer tells no other. Raises
        IntegrityError for a device number that does not fit.
        """
        seconds, extra = encode_time(entry.mtime_ns)
        sectors = blocks * c.SECTORS_PER_BLOCK
        if entry.kind is Kind.CHARACTER or entry.kind is Kind.BLOCK:
            i_block = _encode_device(entry)
        return cls(
            _MODE_OF_KIND[entry.kind] | entry.mode,
            entry.uid & 0xFFFF,
            size & _MAX_32_BIT,
            seconds,
            seconds,
            seconds,
            0,
            entry.gid & 0xFFFF,
            links,
            sectors & _MAX_32_BIT,
            c.EXT4_EXTENTS_FL if extents else 0,
            0,
            i_block,
            0,
            xattr_block,
            size >> 32,
            0,
            sectors >> 32,
            0,
            entry.uid >> 16,
            entry.gid >> 16,
            0,
            0,
            c.INODE_EXTRA_ISIZE,
            0,
            extra,
            extra,
            extra,
            seconds,
            extra,
            0,
            0,
        )  # fmt: skip - in the order of the fields above

    @classmethod
    def read(cls, table: bytes | bytearray, offset: int) -> Inode:
        """Read the inode at `offset` bytes of an inode table."""
        return cls._make(c.INODE.unpack_from(table, offset))

    def with_content(
        self, *, size: int, blocks: int, i_block: bytes, extents: bool, xattr_block: int = 0
    ) -> Inode:
        """Return a copy whose content is `size` bytes in `blocks` blocks, attributes included."""
        sectors = blocks * c.SECTORS_PER_BLOCK
        return self._replace(
            i_size_lo=size & _MAX_32_BIT,
            i_size_high=size >> 32,
            i_blocks_lo=sectors & _MAX_32_BIT,
            l_i_blocks_high=sectors >> 32,
            i_block=i_block,
            i_flags=c.EXT4_EXTENTS_FL if extents else 0,
            i_file_acl_lo=xattr_block,
        )

    @property
    def size(self) -> int:
        """Give the content's size in bytes."""
        return self.i_size_high << 32 | self.i_size_lo

    @property
    def blocks(self) -> int:
        """Count the blocks that the inode owns."""
        return (self.l_i_blocks_high << 32 | self.i_blocks_lo) // c.SECTORS_PER_BLOCK


def _encode_device(entry: Entry) -> bytes:
    """Return i_block of a device node: the old 16-bit form, or the new one in its second word."""
    major, minor = entry.major, entry.minor
    if major >= c.MAX_MAJOR or minor >= c.MAX_MINOR:
        raise IntegrityError(
            f"member {show(entry.path)}: It is the device {major}:{minor}.",
            expected=f"a major number below {c.MAX_MAJOR} and a minor below {c.MAX_MINOR}",
        )
    if major < 256 and minor < 256:
        return (major << 8 | minor).to_bytes(4, "little")
    number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return bytes(4) + (number & _MAX_32_BIT).to_bytes(4, "little")


def extent_blocks_needed(runs: int) -> int:
    """Count the blocks of the extent tree of a file of `runs` runs; up to four need none."""
    blocks = 0
    while runs > c.EXTENTS_IN_INODE:
        runs = -(-runs // c.EXTENTS_PER_BLOCK)
        blocks += runs
    return blocks


def encode_extents(
    runs: list[Run], nodes: list[int], logical: Iterable[int] | None = None
) -> tuple[bytes, list[bytes]]:
    """Return (i_block, content of each block of the tree) that map a file's blocks to `runs`.

    `nodes` are the addresses of extent_blocks_needed(len(runs)) blocks, leaves first. `logical` is
    where in the file each run begins, in blocks; without it they follow each other.
    """
    if len(runs) == 1 and logical is None:  # nearly every file
        ((start, length),) = runs
        header = (c.EXT4_EXT_MAGIC, 1, c.EXTENTS_IN_INODE, 0, 0)
        return c.I_BLOCK_ONE_EXTENT.pack(*header, 0, length, 0, start), []
    if logical is None:
        logical = accumulate((length for _, length in runs), initial=0)
    firsts = list(zip(logical, runs, strict=False))
    level = [(at, c.EXTENT.pack(at, length, 0, start)) for at, (start, length) in firsts]
    contents: list[bytes] = []
    depth = 0
    while len(level) > c.EXTENTS_IN_INODE:
        above = []
        for number in range(0, len(level), c.EXTENTS_PER_BLOCK):
            part = level[number : number + c.EXTENTS_PER_BLOCK]
            first = part[0][0]
            above.append((first, c.EXTENT_IDX.pack(first, nodes[len(contents)], 0, 0)))
            node = _extent_node(part, c.EXTENTS_PER_BLOCK, depth=depth)
            contents.append(node.ljust(c.BLOCK_SIZE, b"\0"))
        level = above
        depth += 1
    return _extent_node(level, c.EXTENTS_IN_INODE, depth=depth).ljust(60, b"\0"), contents


def decode_inline_extents(i_block: bytes) -> list[Run] | None:
    """Return the runs of an extent tree that stands wholly in `i_block`, else None.

    Raises IntegrityError for one that has no room there.
    """
    _, entries, _, depth, _ = c.EXTENT_HEADER.unpack_from(i_block)
    if depth:
        return None
    if entries > c.EXTENTS_IN_INODE:
        raise IntegrityError(f"An inode has {entries} extents, more than it has room for.")
    runs = []
    for number in range(entries):
        offset = c.EXTENT_HEADER.size + number * c.EXTENT.size
        _, length, _, start = c.EXTENT.unpack_from(i_block, offset)
        runs.append((start, length))
    return runs


def _extent_node(entries: list[tuple[int, bytes]], capacity: int, *, depth: int) -> bytes:
    header = c.EXTENT_HEADER.pack(c.EXT4_EXT_MAGIC, len(entries), capacity, depth, 0)
    return header + b"".join([packed for _, packed in entries])
