"""Read a file system that this package wrote, through any `read(offset, length)`.

Owns the checks that a single object needs; whether all of them together make sense is the question
of `check`. The disk is hostile: superblock and descriptors are checked when it is opened, all else
when it is asked for; nothing is recursive, nothing is read without a bound, and whatever is wrong
is an IntegrityError.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Run
from converter.ext4.filesystem import GRAIN_BYTES, INODES_PER_GRAIN
from converter.ext4.geometry import INODES_PER_GROUP
from converter.ext4.inode import KIND_OF_MODE, Inode
from converter.ext4.read_directory import Name, read_directory
from converter.ext4.read_extents import ExtentMap, read_extents
from converter.ext4.read_superblock import Read, read_volume
from converter.ext4.read_xattr import decode_xattrs
from converter.layer.entry import SECOND_NS, Entry, Kind, Segments

_GRAINS_KEPT = 64  # 4 MiB of inode tables
_READ_BYTES = 1 << 20  # of a file's content at once
_TYPE_MASK = 0xF000
_NO_BLOCKS = ExtentMap(())


class StoredInode(NamedTuple):
    """An inode in use: its `fields`, its in-inode attributes as bytes, where its blocks are."""

    node: int
    kind: Kind
    fields: Inode
    in_inode_xattrs: bytes
    map: ExtentMap

    @property
    def runs(self) -> list[Run]:
        """List all blocks that the inode owns: content, extent tree, attribute block."""
        runs = [(extent.start, extent.length) for extent in self.map.extents]
        runs += [(node, 1) for node in self.map.nodes]
        if self.fields.i_file_acl_lo:
            runs.append((self.fields.i_file_acl_lo, 1))
        return runs


def decode_time(seconds: int, extra: int) -> int:
    """Return nanoseconds since the epoch, the inverse of `encode_time`. Raises IntegrityError."""
    fraction = extra >> 2
    if fraction >= SECOND_NS:
        raise IntegrityError(f"Its time has {fraction} nanoseconds.")
    signed = seconds - ((seconds & 0x80000000) << 1)
    return (signed + ((extra & 3) << 32)) * SECOND_NS + fraction


class Reader:
    """An open file system. All methods raise IntegrityError, and what `read` raises."""

    def __init__(self, read: Read, capacity_bytes: int) -> None:
        """Open the file system on a disk of `capacity_bytes`, for example that of a chain."""
        self.read = read
        self.volume = read_volume(read, capacity_bytes)
        self.geometry = self.volume.geometry
        self._inode_grain = lru_cache(maxsize=_GRAINS_KEPT)(self._read_inode_grain)

    def inode(self, node: int) -> StoredInode:
        """Return the inode with the number `node`, which has to be in use."""
        geometry = self.geometry
        if not 0 < node <= geometry.groups * INODES_PER_GROUP:
            raise IntegrityError(f"There is no inode {node}.")
        grain, index = divmod(node - 1, INODES_PER_GRAIN)
        table = self._inode_grain(grain)
        at = index * c.INODE_SIZE
        fields = Inode._make(c.INODE.unpack_from(table, at))
        kind = KIND_OF_MODE.get(fields.i_mode & _TYPE_MASK)
        if kind is None or fields.i_dtime or not fields.i_links_count:
            raise IntegrityError(f"Inode {node} is not in use: i_mode is {fields.i_mode:#o}.")
        if fields.l_i_file_acl_high or fields.i_file_acl_lo >= geometry.blocks:
            raise IntegrityError("Its attribute block is out of bounds.")
        extents = _NO_BLOCKS
        if fields.i_flags & c.EXT4_EXTENTS_FL:
            extents = read_extents(
                fields.i_block, disk_blocks=geometry.blocks, read_block=self.block
            )
            if extents.end * c.BLOCK_SIZE - fields.size >= c.BLOCK_SIZE:
                raise IntegrityError(
                    f"Its blocks reach to {extents.end * c.BLOCK_SIZE} bytes.",
                    expected=f"no further than its size of {fields.size} bytes",
                )
        elif kind is Kind.FILE or kind is Kind.DIRECTORY:
            raise IntegrityError(f"Its flags {fields.i_flags:#x} say nothing of extents.")
        xattrs = table[at + c.INODE_XATTR_OFFSET : at + c.INODE_SIZE]
        return StoredInode(node, kind, fields, xattrs, extents)

    def entry(self, inode: StoredInode, path: bytes = b"") -> Entry:
        """Return what a layer would have said of `inode` under the name `path`.

        `size` is that of a file's content, 0 for all else; `data` reads it, as often as wanted. The
        `segments` of a file with holes are whole blocks.
        """
        fields, kind = inode.fields, inode.kind
        attribute_block = self.block(fields.i_file_acl_lo) if fields.i_file_acl_lo else b""
        if attribute_block or inode.in_inode_xattrs.strip(b"\0"):
            xattrs = decode_xattrs(inode.in_inode_xattrs, attribute_block)
        else:
            xattrs = ()
        major = minor = 0
        if kind is Kind.CHARACTER or kind is Kind.BLOCK:
            major, minor = _decode_device(fields.i_block)
        return Entry(
            path,
            kind,
            fields.i_mode & ~_TYPE_MASK,
            fields.l_i_uid_high << 16 | fields.i_uid,
            fields.l_i_gid_high << 16 | fields.i_gid,
            decode_time(fields.i_mtime, fields.i_mtime_extra),
            fields.size if kind is Kind.FILE else 0,
            self._target(inode) if kind is Kind.SYMLINK else b"",
            major,
            minor,
            xattrs,
            _Content(self, inode) if kind is Kind.FILE else (),
            _segments(inode) if kind is Kind.FILE else None,
        )

    def names(self, directory: StoredInode, parent: int) -> list[Name]:
        """Return the names in `directory`, which is below `parent`, without dots, in byte order."""
        size = directory.fields.size
        extents = directory.map
        count = size // c.BLOCK_SIZE
        if size % c.BLOCK_SIZE or not count or extents.blocks - len(extents.nodes) != count:
            raise IntegrityError(
                f"The directory has {size} bytes in {extents.blocks} blocks.",
                expected="whole blocks without a hole",
            )
        blocks = (
            self.block(extent.start + number)
            for extent in extents.extents
            for number in range(extent.length)
        )
        return read_directory(blocks, directory.node, parent)

    def content(self, inode: StoredInode) -> Iterator[bytes]:
        """Yield what is in the blocks of a file, in pieces of at most 1 MiB; holes are left out."""
        size = inode.fields.size
        for extent in inode.map.extents:
            at = extent.start * c.BLOCK_SIZE
            length = min(extent.length * c.BLOCK_SIZE, size - extent.logical * c.BLOCK_SIZE)
            for begin in range(0, length, _READ_BYTES):
                yield self.read(at + begin, min(_READ_BYTES, length - begin))

    def block(self, number: int) -> bytes:
        """Return a block of the disk."""
        return self.read(number * c.BLOCK_SIZE, c.BLOCK_SIZE)

    def inode_table(self, group: int) -> bytes:
        """Return the whole inode table of a block group, 2 MiB."""
        start = self.geometry.inode_tables[group] * c.BLOCK_SIZE
        return self.read(start, INODES_PER_GROUP * c.INODE_SIZE)

    def _read_inode_grain(self, grain: int) -> bytes:
        group, number = divmod(grain, INODES_PER_GROUP // INODES_PER_GRAIN)
        if self.volume.groups[group].bg_flags & c.EXT4_BG_INODE_UNINIT:
            raise IntegrityError(f"Block group {group} has no inodes in use.")
        start = self.geometry.inode_tables[group] * c.BLOCK_SIZE
        return self.read(start + number * GRAIN_BYTES, GRAIN_BYTES)

    def _target(self, inode: StoredInode) -> bytes:
        size = inode.fields.size
        if inode.fields.i_flags & c.EXT4_EXTENTS_FL:
            extents = inode.map.extents
            fits = c.FAST_SYMLINK_MAX < size < c.BLOCK_SIZE and len(extents) == 1
            target = self.read(extents[0].start * c.BLOCK_SIZE, size) if fits else b""
        else:
            fits = 0 < size <= c.FAST_SYMLINK_MAX
            target = inode.fields.i_block[:size]
        if not fits or b"\0" in target:
            raise IntegrityError(f"The symbolic link has no text of {size} bytes.")
        return target


class _Content:
    """The content of one file as an iterable, so that an entry's data can be read lazily."""

    __slots__ = ("_inode", "_reader")

    def __init__(self, reader: Reader, inode: StoredInode) -> None:
        self._reader = reader
        self._inode = inode

    def __iter__(self) -> Iterator[memoryview]:
        return map(memoryview, self._reader.content(self._inode))


def _segments(inode: StoredInode) -> Segments | None:
    """Return offset and length of what the blocks of a file hold; None if there is no hole."""
    size = inode.fields.size
    segments: list[tuple[int, int]] = []
    for extent in inode.map.extents:
        begin = extent.logical * c.BLOCK_SIZE
        end = min(begin + extent.length * c.BLOCK_SIZE, size)
        if segments and sum(segments[-1]) == begin:
            begin = segments.pop()[0]
        segments.append((begin, end - begin))
    whole = [(0, size)] if size else []
    return None if segments == whole else tuple(segments)


def _decode_device(i_block: bytes) -> tuple[int, int]:
    """Return (major, minor): the old 16-bit form in the first word, else the new one behind it."""
    old = int.from_bytes(i_block[:4], "little")
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    new = int.from_bytes(i_block[4:8], "little")
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
