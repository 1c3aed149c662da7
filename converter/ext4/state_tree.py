"""The tree's part of a link's state: names, links and symlink texts that changed. Pure.

Format: docs/formats.md, "Link state", sections DIRS and LINK. See `converter.ext4.state`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import INODES_PER_GROUP
from converter.layer.entry import Kind
from converter.rootfs.tree import KIND_BITS, KIND_MASK, Tree

_DIRECTORY = Struct("<IIII")  # inode, parent, number of names taken away, number of names given
_TAKEN = Struct("<B")  # length; then the name
_GIVEN = Struct("<QB")  # inode << 3 | kind, length; then the name
_LINK = Struct("<IIH")  # inode, number of names, length of a symlink's text; then the text


def dump_names(tree: Tree) -> Iterator[bytes]:
    """Yield what changed in each directory: the names taken away, the names given."""
    journal = tree.journal
    for node in sorted(journal.made | journal.before.keys()):
        names = tree.directories[node]
        before = journal.before.get(node, {})
        taken = sorted(before.keys() - names.keys())
        given = sorted(name for name, packed in names.items() if before.get(name) != packed)
        if node not in journal.made and not taken and not given:
            continue
        yield _DIRECTORY.pack(node, tree.parents[node], len(taken), len(given))
        for name in taken:
            yield _TAKEN.pack(len(name))
            yield name
        for name in given:
            yield _GIVEN.pack(names[name], len(name))
            yield name


def load_names(data: bytes, tree: Tree, limit: int) -> None:
    """Apply section DIRS. `limit` is the highest inode number. Raises ValueError, LookupError."""
    at = 0
    while at < len(data):
        node, parent, taken, given = _DIRECTORY.unpack_from(data, at)
        at += _DIRECTORY.size
        if tree.parents.setdefault(node, parent) != parent:
            raise ValueError(f"directory {node} moves")
        names = tree.directories.setdefault(node, {})
        for _ in range(taken):
            (length,) = _TAKEN.unpack_from(data, at)
            at += _TAKEN.size
            del names[data[at : at + length]]
            at += length
        for _ in range(given):
            packed, length = _GIVEN.unpack_from(data, at)
            at += _GIVEN.size
            name = data[at : at + length]
            at += length
            if not 0 < packed >> KIND_BITS <= limit or len(name) != length or not _is_name(name):
                raise ValueError(f"the name {name!r} is out of bounds")
            names[name] = packed


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
        tree.set_links(node, links)
        if text:
            tree.symlinks[node] = text
        else:
            tree.symlinks.pop(node, None)


def _is_name(name: bytes) -> bool:
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


def check_tree(filesystem: FileSystem) -> None:
    """See that the directories form one tree, and that each node has one kind and an inode.

    Raises ValueError or LookupError, whose text says what is wrong.
    """
    tree = filesystem.tree
    tables = {group: len(table) // c.INODE_SIZE for group, table in filesystem.tables.items()}
    kinds = {tree.root: int(Kind.DIRECTORY)}
    pending = [tree.root]
    for directory in pending:
        for packed in tree.directories[directory].values():
            node, kind = packed >> KIND_BITS, packed & KIND_MASK
            if kind == Kind.DIRECTORY:
                if node in kinds or tree.parents[node] != directory:
                    raise ValueError(f"directory {node} has two parents")
                pending.append(node)
            if kinds.setdefault(node, Kind(kind)) != kind:
                raise ValueError(f"inode {node} is of two kinds")
            if kind == Kind.SYMLINK and node not in tree.symlinks:
                raise ValueError(f"the symbolic link {node} has no text")
    if len(pending) != len(tree.directories) or len(pending) != len(tree.parents):
        raise ValueError("its directories are not one tree")
    if not kinds.keys() >= tree.links.keys() | tree.symlinks.keys() | filesystem.spilled.keys():
        raise ValueError("it counts the names of a file that has none")
    for node in kinds:
        group, index = divmod(node - 1, INODES_PER_GROUP)
        if index >= tables.get(group, 0):
            raise ValueError(f"inode {node} is in the tree but in no table")
