"""A file system between two layers: everything a further layer needs, without any file's content.

Owns the inode tables and ties them to allocator, tree and identity; `converter.ext4.state` stores
it, `converter.ext4.writer` changes it. Content and attribute blocks are never read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Allocator, Run
from converter.ext4.geometry import ALIGNMENT_BLOCKS, INODES_PER_GROUP, Geometry
from converter.ext4.inode import Inode, decode_inline_extents, encode_extents
from converter.ext4.placement import Placement
from converter.ext4.superblock import Identity
from converter.layer.entry import Entry, Kind
from converter.rootfs.tree import Tree

GRAIN_BYTES = ALIGNMENT_BLOCKS * c.BLOCK_SIZE
INODES_PER_GRAIN = GRAIN_BYTES // c.INODE_SIZE
GRAINS_PER_GROUP = INODES_PER_GROUP // INODES_PER_GRAIN


@dataclass(slots=True)
class FileSystem:
    """The mutable state. `grains` has the inode tables as far as they are in use.

    Grains are numbered over all groups; those that come from a stored state are bytes, and a layer
    copies the few that it changes. `spilled` has the runs of the rare inodes whose extents do not
    fit into the inode: data first, then the extent leaves. `placements` has the directories that
    are changed in place.
    """

    geometry: Geometry
    identity: Identity
    allocator: Allocator
    tree: Tree
    grains: dict[int, bytes | bytearray] = field(default_factory=dict)
    spilled: dict[int, list[Run]] = field(default_factory=dict)
    placements: dict[int, Placement] = field(default_factory=dict)
    dirty_grains: set[int] = field(default_factory=set)

    @classmethod
    def create(cls, geometry: Geometry, identity: Identity) -> FileSystem:
        """Return an empty file system: a root directory (0755, root, epoch) and the journal."""
        filesystem = cls(geometry, identity, Allocator.new(geometry), Tree.empty(c.EXT4_ROOT_INO))
        root = Inode.of(Entry(b"", Kind.DIRECTORY), links=2)
        filesystem.write_inode(c.EXT4_ROOT_INO, root, b"")
        if geometry.journal:
            runs = _chop(geometry.journal_start, geometry.journal_blocks)
            journal = Inode.of(Entry(b"", Kind.FILE, mode=0o600)).with_content(
                size=geometry.journal_blocks * c.BLOCK_SIZE,
                blocks=geometry.journal_blocks,
                i_block=encode_extents(runs, [])[0],
                extents=True,
            )
            filesystem.write_inode(c.EXT4_JOURNAL_INO, journal, b"")
        return filesystem

    @property
    def journal_i_block(self) -> bytes:
        """Give i_block of the journal's inode, of which the superblock keeps a copy."""
        return self.read_inode(c.EXT4_JOURNAL_INO).i_block if self.geometry.journal else b""

    def read_inode(self, node: int) -> Inode:
        """Return the fixed fields of inode `node`."""
        grain, index = divmod(node - 1, INODES_PER_GRAIN)
        return Inode.read(self.grains[grain], index * c.INODE_SIZE)

    def write_inode(self, node: int, inode: Inode, xattrs: bytes | None) -> None:
        """Store inode `node`; `xattrs` are its in-inode attributes, None keeps what is there."""
        grain, index = divmod(node - 1, INODES_PER_GRAIN)
        table = self._own_grain(grain)
        offset = index * c.INODE_SIZE
        before = table[offset : offset + c.INODE_SIZE]
        c.INODE.pack_into(table, offset, *inode)
        if xattrs is not None:
            room = c.INODE_SIZE - c.INODE_XATTR_OFFSET
            offset_xattrs = offset + c.INODE_XATTR_OFFSET
            table[offset_xattrs : offset_xattrs + room] = xattrs.ljust(room, b"\0")
        if table[offset : offset + c.INODE_SIZE] != before:
            self.dirty_grains.add(grain)

    def new_inode(self, node: int, inode: Inode, xattrs: bytes) -> None:
        """Store the inode of a number that was never used, so that its record is all zero yet."""
        grain, index = divmod(node - 1, INODES_PER_GRAIN)
        table = self._own_grain(grain)
        offset = index * c.INODE_SIZE
        c.INODE.pack_into(table, offset, *inode)
        if xattrs:
            offset += c.INODE_XATTR_OFFSET
            table[offset : offset + len(xattrs)] = xattrs
        self.dirty_grains.add(grain)

    def clear_inode(self, node: int) -> None:
        """Make inode `node` all zero, which e2fsck takes as never used."""
        grain, index = divmod(node - 1, INODES_PER_GRAIN)
        offset = index * c.INODE_SIZE
        self._own_grain(grain)[offset : offset + c.INODE_SIZE] = bytes(c.INODE_SIZE)
        self.dirty_grains.add(grain)

    def data_runs(self, node: int, inode: Inode) -> list[Run]:
        """Return the blocks that hold the content of `node` and its extent leaves.

        Raises IntegrityError if a damaged state, whose inodes are not looked at when it is loaded,
        does not say.
        """
        if not inode.i_flags & c.EXT4_EXTENTS_FL:
            return []
        runs = decode_inline_extents(inode.i_block)
        if runs is None:
            runs = self.spilled.get(node)
            if runs is None:
                raise IntegrityError(f"The state does not say where inode {node} has its blocks.")
        return runs

    def split_runs(self, node: int, inode: Inode) -> tuple[list[Run], list[Run]]:
        """Return the runs of a directory's content, and those of the blocks of its extent tree."""
        runs = self.data_runs(node, inode)
        blocks = inode.size // c.BLOCK_SIZE
        for number, (_, length) in enumerate(runs):
            if not blocks:
                return runs[:number], runs[number:]
            blocks -= length
        return runs, []

    def inode_grain(self, grain: int) -> tuple[int, bytes]:
        """Return (first block, content) of a grain of inodes."""
        group, number = divmod(grain, GRAINS_PER_GROUP)
        block = self.geometry.inode_tables[group] + number * ALIGNMENT_BLOCKS
        return block, bytes(self.grains[grain])

    def _own_grain(self, grain: int) -> bytearray:
        """Return a grain of inodes for a change: a new one, or a copy of what was stored."""
        content = self.grains.get(grain)
        if type(content) is bytearray:  # nearly always: 256 inodes in turn
            return content
        own = self.grains[grain] = bytearray(GRAIN_BYTES) if content is None else bytearray(content)
        return own


def _chop(start: int, length: int) -> list[Run]:
    """Cut one run into runs that one extent each can describe."""
    runs = []
    while length:
        part = min(length, c.EXT_INIT_MAX_LEN)
        runs.append((start, part))
        start += part
        length -= part
    return runs
