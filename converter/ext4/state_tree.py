"""The tree's part of a link's state: names, links and symlink texts that changed. Pure.

Format: docs/formats.md, "Link state", sections DIRS and LINK. See `converter.ext4.state`.
"""

from __future__ import annotations

import stat
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, compress
from operator import add
from struct import Struct

from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import GRAINS_PER_GROUP, INODES_PER_GRAIN, FileSystem
from converter.ext4.geometry import ALIGNMENT_BLOCKS
from converter.ext4.inode import KIND_OF_MODE
from converter.ext4.placement import Placement, free_bytes
from converter.layer.entry import Kind
from converter.rootfs.tree import KIND_BITS, KIND_MASK, Tree

_DIRECTORY = Struct("<IIIII")  # inode, parent, blocks if changed in place, names taken, names given
_TAKEN = Struct("<B")  # length; then the name
_GIVEN = Struct("<QIB")  # inode << 3 | kind, block if changed in place, length; then the name
_LINK = Struct("<IIH")  # inode, number of names, length of a symlink's text; then the text

_TYPE_OFFSET = 1  # the high byte of i_mode, whose upper half is the type
_RESERVED = c.EXT4_GOOD_OLD_FIRST_INO - 1
_BITMAP_BYTES = INODES_PER_GRAIN // 8
_DIRECTORY_KIND, _SYMLINK_KIND = int(Kind.DIRECTORY), int(Kind.SYMLINK)
# For bytes.translate: that byte of i_mode to a kind, 0 if it is none; a kind to a bitmap's digit.
_KINDS = bytes(KIND_OF_MODE.get(byte >> 4 << 12, 0) for byte in range(256))
_DIGITS = b"0".ljust(256, b"1")


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
    """Apply section DIRS. Raises ValueError, LookupError, struct.error.

    Names and what they lead to are looked at by `check_tree`, all at once.
    """
    tree = filesystem.tree
    unpack_given, given_size = _GIVEN.unpack_from, _GIVEN.size
    at = 0
    while at < len(data):
        node, parent, blocks, taken, given = _DIRECTORY.unpack_from(data, at)
        at += _DIRECTORY.size
        if tree.parents.setdefault(node, parent) != parent:
            raise ValueError(f"directory {node} moves")
        names = tree.directories.setdefault(node, {})
        where = _places(filesystem, node, blocks)
        for _ in range(taken):
            (length,) = _TAKEN.unpack_from(data, at)
            at += _TAKEN.size
            name = data[at : at + length]
            del names[name]
            if where is not None:
                where.pop(name, None)
            at += length
        for _ in range(given):
            # A loop over every name of an image: what is looked up here, all of them pay for.
            packed, block, length = unpack_given(data, at)
            start = at + given_size
            at = start + length
            name = data[start:at]
            names[name] = packed
            if where is not None:
                where[name] = block
    if at > len(data):
        raise ValueError("its last name is cut short")


def _places(filesystem: FileSystem, node: int, blocks: int) -> dict[bytes, int] | None:
    """Return where the names of `node` are, for the caller to fill, if it is changed in place."""
    if not blocks:
        filesystem.placements.pop(node, None)
        return None
    placement = filesystem.placements.setdefault(node, Placement(0, {}))
    placement.blocks = blocks
    placement.stored = True
    return placement.where


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
    """See that the directories form one tree, and that each inode in use is what its names say.

    Raises ValueError or LookupError, whose text says what is wrong.
    """
    # Whole lists are compared: a loop that looks each name up takes three times as long.
    tree = filesystem.tree
    directories, parents = tree.directories, tree.parents
    if parents[tree.root] != tree.root:
        raise ValueError("its root is in another directory")
    if not stat.S_ISDIR(filesystem.read_inode(tree.root).i_mode):
        raise ValueError("its root is no directory")
    _check_names(directories)
    inodes = _inodes(filesystem)
    names = sorted(chain.from_iterable(map(dict.values, directories.values())))
    if names and names[0] >> KIND_BITS < c.EXT4_GOOD_OLD_FIRST_INO:
        raise ValueError("a name is that of a reserved inode or none")
    _compare(names, inodes, tree)
    pending = [tree.root]
    for directory in pending:  # ends, since each has one name
        for packed in directories[directory].values():
            if packed & KIND_MASK == _DIRECTORY_KIND:
                node = packed >> KIND_BITS
                if parents[node] != directory:
                    raise ValueError(f"directory {node} has two parents")
                pending.append(node)
    if len(pending) != len(directories) or len(pending) != len(parents):
        raise ValueError("its directories are not one tree")
    if tree.symlinks.keys() != {
        packed >> KIND_BITS for packed in inodes if packed & KIND_MASK == _SYMLINK_KIND
    }:
        raise ValueError("it has symbolic links without a text, or texts without a link")
    for node in filesystem.spilled:
        _find(inodes, node)


def _check_names(directories: dict[int, dict[bytes, int]]) -> None:
    """See that every name is one that a file may have."""
    joined = b"".join(chain.from_iterable(directories.values()))
    if b"/" in joined or b"\0" in joined:
        raise ValueError("it has a name with a slash or a NUL")
    for names in directories.values():
        if b"" in names or b"." in names or b".." in names:
            raise ValueError("it has a name that is empty or dots")


def _compare(names: list[int], inodes: list[int], tree: Tree) -> None:
    """See that `names`, sorted, has each of `inodes` as many times as `tree` counts."""
    if len(names) != len(inodes) + sum(tree.links.values()) - len(tree.links):
        raise ValueError("it counts other names than there are")
    linked = [_find(inodes, node) for node in tree.links]
    counted = list(inodes)
    for packed in linked:
        counted += [packed] * (tree.links[packed >> KIND_BITS] - 1)
    counted.sort()
    for name, inode in zip(names, counted, strict=True) if names != counted else ():
        if name >> KIND_BITS != inode >> KIND_BITS:
            raise ValueError("it counts other names of a file than there are")
        if name != inode:
            raise ValueError(f"inode {inode >> KIND_BITS} is not of the kind that its name says")
    if any(packed & KIND_MASK == _DIRECTORY_KIND for packed in linked):
        raise ValueError("it has a directory with two names")


def _find(inodes: list[int], node: int) -> int:
    """Return `node` as `inodes` has it. Raises LookupError."""
    packed = inodes[bisect_left(inodes, node << KIND_BITS)]
    if packed >> KIND_BITS != node:
        raise LookupError(f"inode {node} is not in use")
    return packed


def _inodes(filesystem: FileSystem) -> list[int]:
    """Return the inodes in use that are not reserved, ascending, as directories have them.

    Raises ValueError where tables and bitmaps have not the same ones in use.
    """
    found: list[int] = []
    for group, bitmap in sorted(filesystem.allocator.inode_bitmaps.items()):
        for number in range(GRAINS_PER_GROUP):
            grain = group * GRAINS_PER_GROUP + number
            content = filesystem.grains.get(grain, b"")
            kinds = content[_TYPE_OFFSET :: c.INODE_SIZE].translate(_KINDS)
            bits = bitmap[number * _BITMAP_BYTES : (number + 1) * _BITMAP_BYTES]
            used = int.from_bytes(bits, "little")
            if not grain:
                kinds = bytes(_RESERVED) + kinds[_RESERVED:]
                used = used >> _RESERVED << _RESERVED
            stored = int(kinds[::-1].translate(_DIGITS) or b"0", 2)
            if used != stored:
                lowest = (used ^ stored) & -(used ^ stored)
                node = grain * INODES_PER_GRAIN + lowest.bit_length()
                raise ValueError(f"inode {node} is in use by its bitmap or by its table alone")
            first = grain * INODES_PER_GRAIN + 1
            numbers = range(first << KIND_BITS, (first + len(kinds)) << KIND_BITS, 1 << KIND_BITS)
            found += compress(map(add, numbers, kinds), kinds)
    return found
