"""Inodes, extents and times as bytes. Pure functions over numbers; no allocation, no state.

Format: Documentation/filesystems/ext4, inodes.rst and ifork.rst.
"""

from __future__ import annotations

from typing import NamedTuple

from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Run
from converter.layer.entry import Entry, Kind

_MODE_OF_KIND = {
    Kind.FILE: c.S_IFREG,
    Kind.DIRECTORY: c.S_IFDIR,
    Kind.CHARACTER: c.S_IFCHR,
    Kind.BLOCK: c.S_IFBLK,
    Kind.FIFO: c.S_IFIFO,
    Kind.SYMLINK: c.S_IFLNK,
}
_NANOSECONDS = 10**9
_EARLIEST = -(1 << 31)  # 1901: the low 32 bits are signed,
_LATEST = (1 << 34) - (1 << 31) - 1  # 2446: two more bits of seconds stand in the extra field
_MAX_32_BIT = 0xFFFFFFFF


def encode_time(nanoseconds: int) -> tuple[int, int]:
    """Return (seconds field, extra field) of a time since the epoch.

    Times that ext4 cannot hold become the nearest one that it can.
    """
    seconds, fraction = divmod(nanoseconds, _NANOSECONDS)
    if seconds < _EARLIEST:
        seconds, fraction = _EARLIEST, 0
    elif seconds > _LATEST:
        seconds, fraction = _LATEST, _NANOSECONDS - 1
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
    def of(cls, entry: Entry, *, links: int = 1) -> Inode:
        """Make the inode of `entry` without content: attributes, and i_block of a device.

        All four times are the entry's modification time, since a layer tells no other.
        """
        seconds, extra = encode_time(entry.mtime_ns)
        device = b""
        if entry.kind is Kind.CHARACTER or entry.kind is Kind.BLOCK:
            device = _encode_device(entry.major, entry.minor)
        return cls(
            _MODE_OF_KIND[entry.kind] | entry.mode,
            entry.uid & 0xFFFF,
            0,
            seconds,
            seconds,
            seconds,
            0,
            entry.gid & 0xFFFF,
            links,
            0,
            0,
            0,
            device,
            0,
            0,
            0,
            0,
            0,
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
    def read(cls, table: bytearray, offset: int) -> Inode:
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


def _encode_device(major: int, minor: int) -> bytes:
    """Return i_block of a device node: the old 16-bit form, or the new one in its second word."""
    if major < 256 and minor < 256:
        return (major << 8 | minor).to_bytes(4, "little")
    number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return bytes(4) + (number & _MAX_32_BIT).to_bytes(4, "little")


def leaf_blocks_needed(runs: int) -> int:
    """Count the extent leaves for a file of `runs` runs; up to four stand in the inode itself."""
    return 0 if runs <= c.EXTENTS_IN_INODE else -(-runs // c.EXTENTS_PER_BLOCK)


def encode_extents(runs: list[Run], leaves: list[int]) -> tuple[bytes, list[bytes]]:
    """Return (i_block, content of each leaf block) that map a file's blocks to `runs`.

    `leaves` are the addresses of leaf_blocks_needed(len(runs)) blocks, at most four: more runs
    than those map are impossible below 170 GiB of one file and raise ValueError.
    """
    extents = []
    logical = 0
    for start, length in runs:
        extents.append(c.EXTENT.pack(logical, length, 0, start))
        logical += length
    if not leaves:
        return _extent_node(extents, c.EXTENTS_IN_INODE, depth=0).ljust(60, b"\0"), []
    if len(leaves) > c.EXTENTS_IN_INODE:
        raise ValueError(f"{len(runs)} extents need a third level")
    indexes, nodes = [], []
    for number, leaf in enumerate(leaves):
        part = extents[number * c.EXTENTS_PER_BLOCK : (number + 1) * c.EXTENTS_PER_BLOCK]
        first_logical = c.EXTENT.unpack(part[0])[0]
        indexes.append(c.EXTENT_IDX.pack(first_logical, leaf, 0, 0))
        node = _extent_node(part, c.EXTENTS_PER_BLOCK, depth=0)
        nodes.append(node.ljust(c.BLOCK_SIZE, b"\0"))
    return _extent_node(indexes, c.EXTENTS_IN_INODE, depth=1).ljust(60, b"\0"), nodes


def decode_inline_extents(i_block: bytes) -> list[Run] | None:
    """Return the runs of an extent tree that stands wholly in `i_block`, else None."""
    _, entries, _, depth, _ = c.EXTENT_HEADER.unpack_from(i_block)
    if depth:
        return None
    runs = []
    for number in range(entries):
        offset = c.EXTENT_HEADER.size + number * c.EXTENT.size
        _, length, _, start = c.EXTENT.unpack_from(i_block, offset)
        runs.append((start, length))
    return runs


def _extent_node(entries: list[bytes], capacity: int, *, depth: int) -> bytes:
    header = c.EXTENT_HEADER.pack(c.EXT4_EXT_MAGIC, len(entries), capacity, depth, 0)
    return header + b"".join(entries)
