"""The tree's part of a link's state: names, links and symlink texts that changed. Pure.

Format: docs/formats.md, "Link state", sections DIRS and LINK. See `converter.ext4.state`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import ALIGNMENT_BLOCKS, INODES_PER_GROUP
from converter.ext4.placement import Placement, free_bytes
from converter.layer.entry import Kind
from converter.rootfs.tree import KIND_BITS, KIND_MASK, Tree

_DIRECTORY = Struct("<IIIII")  # inode, parent, blocks if changed in place, names taken, names given
_TAKEN = Struct("<B")  # length; then the name
_GIVEN = Struct("<QIB")  # inode << 3 | kind, block if changed in place, length; then the name
_LINK = Struct("<IIH")  # inode, number of names, length of a symlink's text; then the text

_TYPE_OFFSET = 1  # the high byte of i_mode, whose upper half is the type
_NO_NAMES = frozenset({b"", b".", b".."})
_DIRECTORY_KIND, _SYMLINK_KIND = int(Kind.DIRECTORY), int(Kind.SYMLINK)
_TYPES: dict[int, int] = {
    Kind.FILE: c.S_IFREG >> 12,
    Kind.DIRECTORY: c.S_IFDIR >> 12,
    Kind.CHARACTER: c.S_IFCHR >> 12,
    Kind.BLOCK: c.S_IFBLK >> 12,
    Kind.FIFO: c.S_IFIFO >> 12,
    Kind.SYMLINK: c.S_IFLNK >> 12,
}


def dump_names(filesystem: FileSystem) -> Iterator[bytes]:
    """Yield what changed in each directory: the names taken away, the names given."""
    tree = filesystem.tree
    journal = tree.journal
    for node in sorted(journal.made | journal.before.keys()):
        names = tree.directories[node]
        before = journal.before.get(node, {})
        taken = sorted(before.keys() - names.keys())
        placement = filesystem.placements.get(node)
        where = placement.where if placement else {}
        if placement and not placement.stored:
            given = sorted(names)
        else:
            given = sorted(name for name, packed in names.items() if before.get(name) != packed)
        if node not in journal.made and not taken and not given:
            continue
        blocks = placement.blocks if placement else 0
        yield _DIRECTORY.pack(node, tree.parents[node], blocks, len(taken), len(given))
        for name in taken:
            yield _TAKEN.pack(len(name))
            yield name
        for name in given:
            yield _GIVEN.pack(names[name], where.get(name, 0), len(name))
            yield name


def load_names(data: bytes, filesystem: FileSystem) -> None:
    """Apply section DIRS. Raises ValueError, LookupError, struct.error."""
    tree = filesystem.tree
    lowest = c.EXT4_GOOD_OLD_FIRST_INO << KIND_BITS
    limit = (filesystem.geometry.groups * INODES_PER_GROUP + 1) << KIND_BITS
    unpack_given, given_size = _GIVEN.unpack_from, _GIVEN.size
    at = 0
    while at < len(data):
        node, parent, blocks, taken, given = _DIRECTORY.unpack_from(data, at)
        at += _DIRECTORY.size
        if tree.parents.setdefault(node, parent) != parent:
            raise ValueError(f"directory {node} moves")
        names = tree.directories.setdefault(node, {})
        where = _placement(filesystem, node, blocks).where
        for _ in range(taken):
            (length,) = _TAKEN.unpack_from(data, at)
            at += _TAKEN.size
            name = data[at : at + length]
            del names[name]
            where.pop(name, None)
            at += length
        for _ in range(given):
            # A loop over every name of an image: what is looked up here, all of them pay for.
            packed, block, length = unpack_given(data, at)
            at += given_size
            name = data[at : at + length]
            at += length
            if len(name) != length or name in _NO_NAMES or b"/" in name or b"\0" in name:
                raise ValueError(f"the name {name!r} is out of bounds")
            if not lowest <= packed < limit:
                raise ValueError(f"the name {name!r} is that of a reserved inode or none")
            names[name] = packed
            if blocks:
                where[name] = block


def _placement(filesystem: FileSystem, node: int, blocks: int) -> Placement:
    """Return the placement of `node`, of `blocks` blocks, for the caller to fill."""
    if not blocks:
        filesystem.placements.pop(node, None)
        return Placement(0, {})
    placement = filesystem.placements.setdefault(node, Placement(0, {}))
    placement.blocks = blocks
    placement.stored = True
    return placement


def dump_links(tree: Tree) -> Iterator[bytes]:
    """Yield the link count and the symlink text of each node where one of them changed."""
    for node in sorted(tree.journal.nodes):
        text = tree.symlinks.get(node, b"")
        yield _LINK.pack(node, tree.links.get(node, 1), len(text))
        yield text


def load_links(data: bytes, tree: Tree) -> None:
    """Apply section LINK. Raises ValueError, struct.error."""
    at = 0
    while at < len(data):
        node, links, length = _LINK.unpack_from(data, at)
        at += _LINK.size
        text = data[at : at + length]
        at += length
        if len(text) != length or not 0 < links <= c.EXT4_LINK_MAX:
            raise ValueError(f"the links of inode {node} are out of bounds")
        if b"\0" in text or len(text) >= c.BLOCK_SIZE:
            raise ValueError(f"the text of symbolic link {node} is none that a layer may have")
        tree.set_links(node, links)
        if text:
            tree.symlinks[node] = text
        else:
            tree.symlinks.pop(node, None)


def check_placements(filesystem: FileSystem) -> None:
    """See that large directories are whole grains of their own and that their names fit there.

    Raises ValueError or LookupError, whose text says what is wrong.
    """
    grains: list[int] = []
    for node, placement in filesystem.placements.items():
        runs, _ = filesystem.split_runs(node, filesystem.read_inode(node))
        if any(number % ALIGNMENT_BLOCKS for run in runs for number in run):
            raise ValueError(f"directory {node} shares grains")
        if sum(length for _, length in runs) != placement.blocks or not placement.blocks:
            raise ValueError(f"directory {node} has another size")
        if placement.where.keys() != filesystem.tree.directories[node].keys():
            raise ValueError(f"directory {node} has names without a place")
        if min(free_bytes(placement.where, placement.blocks)) < 0:
            raise ValueError(f"the names of directory {node} do not fit")
        for start, length in runs:
            grains.extend(range(start, start + length, ALIGNMENT_BLOCKS))
    geometry, frontier = filesystem.geometry, filesystem.allocator.frontier
    if len(set(grains)) != len(grains):
        raise ValueError("two directories share grains")
    if grains and not geometry.data_start <= min(grains) <= max(grains) < frontier:
        raise ValueError("a directory lies outside the data")


def check_tree(filesystem: FileSystem) -> None:
    """See that the directories form one tree, and that each node has one kind and an inode of it.

    Raises ValueError or LookupError, whose text says what is wrong.
    """
    tree = filesystem.tree
    directories, parents = tree.directories, tree.parents
    kinds = {tree.root: _DIRECTORY_KIND}  # plain numbers: enum members take twice the time
    names: dict[int, int] = {}  # of nodes that have more than one
    pending = [tree.root]
    if parents[tree.root] != tree.root:
        raise ValueError("its root is in another directory")
    for directory in pending:
        for packed in directories[directory].values():
            node, kind = packed >> KIND_BITS, packed & KIND_MASK
            if kind == _DIRECTORY_KIND:
                if node in kinds or parents[node] != directory:
                    raise ValueError(f"directory {node} has two parents")
                pending.append(node)
            if node not in kinds:
                kinds[node] = kind
            elif kinds[node] == kind:
                names[node] = names.get(node, 1) + 1
            else:
                raise ValueError(f"inode {node} is of two kinds")
    if len(pending) != len(tree.directories) or len(pending) != len(tree.parents):
        raise ValueError("its directories are not one tree")
    if names != tree.links:
        raise ValueError("it counts other names of a file than there are")
    if tree.symlinks.keys() != {node for node, kind in kinds.items() if kind == _SYMLINK_KIND}:
        raise ValueError("it has symbolic links without a text, or texts without a link")
    if not kinds.keys() >= filesystem.spilled.keys():
        raise ValueError("it has blocks of a file that has no name")
    _check_inodes(filesystem, kinds)


def _check_inodes(filesystem: FileSystem, kinds: dict[int, int]) -> None:
    """See that each node's inode is in use and of its kind."""
    tables, bitmaps = filesystem.tables, filesystem.allocator.inode_bitmaps
    inode_size, types = c.INODE_SIZE, _TYPES
    for node, kind in kinds.items():
        group, index = divmod(node - 1, INODES_PER_GROUP)
        # IndexError for one behind its table, which only reaches to the last inode in use
        if tables[group][index * inode_size + _TYPE_OFFSET] >> 4 != types[kind]:
            raise ValueError(f"inode {node} is not of the kind that its name says")
        if not bitmaps[group][index >> 3] >> (index & 7) & 1:
            raise ValueError(f"inode {node} has a name, but is not in use")
