"""Check a whole file system: does every object make sense together with all the others?

Owns the rules: each block and inode has exactly one use, bitmaps and counters say the same as the
tree, what is not in use is empty, and each inode is, byte for byte, what the writer makes of what
it says. Only structure is read, never a file's content. Memory: a few hundred bytes per file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Run
from converter.ext4.geometry import INODES_PER_GROUP
from converter.ext4.inode import Inode
from converter.ext4.reader import Reader, StoredInode
from converter.ext4.superblock import encode_journal
from converter.ext4.walk import Walk
from converter.ext4.xattr import encode_xattrs
from converter.layer.entry import Entry, Kind

_ALL_BLOCKS = (1 << c.BLOCKS_PER_GROUP) - 1
_RESERVED_INODES = (1 << c.EXT4_GOOD_OLD_FIRST_INO - 1) - 1
_PAST_THE_INODES = _ALL_BLOCKS ^ ((1 << INODES_PER_GROUP) - 1)
_EMPTY_TABLE = bytes(INODES_PER_GROUP * c.INODE_SIZE)
_XATTR_ROOM = c.INODE_SIZE - c.INODE_XATTR_OFFSET


@dataclass(frozen=True, slots=True)
class FileSystemReport:
    """What a sound file system holds. `used_blocks` are of 4 KiB and include all metadata."""

    names: int
    directories: int
    inodes: int
    used_blocks: int


class Bit(NamedTuple):
    """The first bit of a bitmap that is not as it should be."""

    number: int
    is_set: bool


def check_filesystem(reader: Reader) -> FileSystemReport:
    """Check everything but the content of files, and count.

    Raises IntegrityError that names the first fault, and what the reader's `read` raises.
    """
    return _Check(reader).run()


class _Check:
    """What has been found so far: one integer of bits per block group, one number per inode."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._geometry = reader.geometry
        self._blocks: dict[int, int] = {}  # group: its blocks in use, as bits
        self._links: dict[int, int] = {}  # inode: links that it claims less names found so far
        self._crowded: set[int] = set()  # directories with too many links to count
        self._directories: dict[int, int] = {}  # group: number of directories

    def run(self) -> FileSystemReport:
        for run in self._geometry.metadata_ranges():
            self._claim(run)
        if self._geometry.journal:
            self._check_journal()
        walk = Walk(self._reader)
        names = 0
        for directory, name, inode in walk:
            try:
                self._enter(inode, directory)
            except SaltflatError as error:
                error.add_context(walk.where(directory, name, inode.node))
                raise
            names += 1
        self._check_links()
        for group in range(self._geometry.groups):
            self._check_blocks_of(group)
            self._check_inodes_of(group)
        return FileSystemReport(
            names=names - 1,
            directories=sum(self._directories.values()),
            inodes=len(self._links),
            used_blocks=sum(bits.bit_count() for bits in self._blocks.values()),
        )

    # What the tree leads to

    def _enter(self, inode: StoredInode, directory: int) -> None:
        """Count a name of `inode`; with the first one, check the inode and claim its blocks."""
        node = inode.node
        if inode.kind is Kind.DIRECTORY:
            # Its name and its own dot; its children's two dots count when they are found.
            self._links[node] = inode.fields.i_links_count - 2
            if inode.fields.i_links_count == 1:
                self._crowded.add(node)
            if directory != node:
                self._links[directory] -= 1
            group = (node - 1) // INODES_PER_GROUP
            self._directories[group] = self._directories.get(group, 0) + 1
        elif node in self._links:
            self._links[node] -= 1
            return
        else:
            self._links[node] = inode.fields.i_links_count - 1
        for run in inode.runs:
            self._claim(run)
        self._check_inode(inode)

    def _check_inode(self, inode: StoredInode) -> None:
        """Compare the inode with what the writer makes of what it says."""
        entry = self._reader.entry(inode)
        wanted = _encode_inode(inode, entry)
        if wanted != inode.fields:
            names = zip(Inode._fields, inode.fields, wanted, strict=True)
            name, have, want = next(each for each in names if each[1] != each[2])
            raise IntegrityError(f"Its {name} is {have!r}.", expected=f"{want!r}")
        block = inode.fields.i_file_acl_lo
        if not entry.xattrs and not block and not inode.in_inode_xattrs.strip(b"\0"):
            return
        try:
            in_inode, in_block = encode_xattrs(entry.xattrs, b"it")
        except SaltflatError as error:
            raise IntegrityError("Its extended attributes are none that we write.") from error
        if in_inode.ljust(_XATTR_ROOM, b"\0") != inode.in_inode_xattrs or in_block != (
            self._reader.block(block) if block else b""
        ):
            raise IntegrityError(
                "Its extended attributes are not stored as they should be.",
                expected="ascending order, right hashes, and zeros in between",
            )

    def _claim(self, run: Run) -> None:
        """Take blocks that nothing else may have."""
        start, length = run
        while length:
            group, first = divmod(start, c.BLOCKS_PER_GROUP)
            count = min(length, c.BLOCKS_PER_GROUP - first)
            bits = ((1 << count) - 1) << first
            taken = self._blocks.get(group, 0)
            if taken & bits:
                block = group * c.BLOCKS_PER_GROUP + _lowest(taken & bits)
                raise IntegrityError(f"Block {block} is used twice.")
            self._blocks[group] = taken | bits
            start += count
            length -= count

    def _check_journal(self) -> None:
        reader, geometry = self._reader, self._geometry
        wanted = encode_journal(geometry.journal_blocks, reader.volume.identity)
        if reader.block(geometry.journal_start) != wanted:
            raise IntegrityError("The journal's superblock is not that of an empty journal.")
        inode = reader.inode(c.EXT4_JOURNAL_INO)
        if inode.fields != reader.volume.journal or inode.in_inode_xattrs.strip(b"\0"):
            raise IntegrityError("The journal's inode (8) is not what it should be.")
        self._links[c.EXT4_JOURNAL_INO] = 0

    def _check_links(self) -> None:
        for node, missing in self._links.items():
            if node in self._crowded:
                # dir_nlink: 1 stands for more links than the field holds.
                if -missing - 1 + 2 < c.EXT4_LINK_MAX:
                    raise IntegrityError(f"Directory inode {node} counts 1 link.")
            elif missing:
                claimed = "more" if missing > 0 else "fewer"
                raise IntegrityError(
                    f"Inode {node} counts {abs(missing)} links {claimed} than it has names."
                )

    # What bitmaps, counters and tables say

    def _check_blocks_of(self, group: int) -> None:
        geometry = self._geometry
        descriptor = self._reader.volume.groups[group]
        size = geometry.group_blocks(group)
        used = self._blocks.get(group, 0)
        free = size - used.bit_count()
        if descriptor.bg_free_blocks_count_lo != free:
            raise IntegrityError(
                f"Block group {group} counts {descriptor.bg_free_blocks_count_lo} free blocks.",
                expected=f"{free}",
            )
        if descriptor.bg_flags & c.EXT4_BG_BLOCK_UNINIT:
            kept = geometry.backup_used_blocks if group in geometry.backup_groups else 0
            if used != (1 << kept) - 1:
                raise IntegrityError(f"Block group {group} has no block bitmap, but is in use.")
            return
        past_the_end = _ALL_BLOCKS ^ ((1 << size) - 1)
        bit = _compare(self._reader.block(geometry.block_bitmaps[group]), used | past_the_end)
        if bit:
            raise IntegrityError(
                f"The bitmap of block group {group} says that block "
                f"{group * c.BLOCKS_PER_GROUP + bit.number} is "
                f"{'in use, but nothing leads' if bit.is_set else 'free, but something leads'} "
                "to it."
            )

    def _check_inodes_of(self, group: int) -> None:
        geometry = self._geometry
        descriptor = self._reader.volume.groups[group]
        if descriptor.bg_flags & c.EXT4_BG_INODE_UNINIT:
            return  # nothing in it was found: the reader refuses such an inode
        first = group * INODES_PER_GROUP + 1
        found = [index for index in range(INODES_PER_GROUP) if first + index in self._links]
        used = 0
        for index in found:
            used |= 1 << index
        if group == 0:
            used |= _RESERVED_INODES
        bit = _compare(self._reader.block(geometry.inode_bitmaps[group]), used | _PAST_THE_INODES)
        if bit:
            raise IntegrityError(
                f"The bitmap of block group {group} says that inode {first + bit.number} is "
                f"{'in use, but it has no name.' if bit.is_set else 'free, but it has a name.'}"
            )
        counted = (
            INODES_PER_GROUP - descriptor.bg_free_inodes_count_lo,
            descriptor.bg_used_dirs_count_lo,
        )
        wanted = (used.bit_count(), self._directories.get(group, 0))
        if counted != wanted:
            raise IntegrityError(
                f"Block group {group} counts {counted[0]} inodes in use and "
                f"{counted[1]} directories.",
                expected=f"{wanted[0]} and {wanted[1]}",
            )
        if used.bit_length() > INODES_PER_GROUP - descriptor.bg_itable_unused_lo:
            raise IntegrityError(f"Block group {group} has inodes in use where none were ever.")
        rest = bytearray(self._reader.inode_table(group))
        for index in found:
            rest[index * c.INODE_SIZE : (index + 1) * c.INODE_SIZE] = bytes(c.INODE_SIZE)
        if rest != _EMPTY_TABLE:
            index = (len(rest) - len(rest.lstrip(b"\0"))) // c.INODE_SIZE
            raise IntegrityError(f"Inode {first + index} is not in use, but not empty.")


def _encode_inode(inode: StoredInode, entry: Entry) -> Inode:
    """Return the fields as the writer would have them. Where its blocks are is the inode's word."""
    fields = inode.fields
    wanted = Inode.of(entry, links=fields.i_links_count)
    size, i_block, extents = 0, wanted.i_block, False
    if inode.kind is Kind.FILE or inode.kind is Kind.DIRECTORY:
        size, i_block, extents = fields.size, fields.i_block, True
    elif inode.kind is Kind.SYMLINK:
        size, i_block = len(entry.target), entry.target
        if size > c.FAST_SYMLINK_MAX:
            i_block, extents = fields.i_block, True
    return wanted.with_content(
        size=size,
        blocks=inode.map.blocks + bool(fields.i_file_acl_lo),
        i_block=i_block.ljust(len(fields.i_block), b"\0"),
        extents=extents,
        xattr_block=fields.i_file_acl_lo,
    )


def _compare(bitmap: bytes, wanted: int) -> Bit | None:
    """Return the first bit of a bitmap block that differs from `wanted`, or None."""
    have = int.from_bytes(bitmap, "little")
    if have == wanted:
        return None
    number = _lowest(have ^ wanted)
    return Bit(number, bool(have >> number & 1))


def _lowest(bits: int) -> int:
    """Return the number of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1
