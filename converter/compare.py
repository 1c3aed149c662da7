"""Compare a stored file system with the tree that an image's layers make. Owns what counts.

Every name, attribute, hole and byte of content does, and which names are the same file. Both sides
meet name by name, so that neither needs paths; a path is made for the message alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NoReturn

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.holes import block_ranges, fill_blocks
from converter.ext4.inode import encode_time
from converter.ext4.read_xattr import decode_xattrs
from converter.ext4.reader import Reader, decode_time
from converter.ext4.walk import Found, Walk
from converter.ext4.xattr import encode_xattrs
from converter.layer.entry import Entry, Kind, Segments
from converter.rootfs.expected import ExpectedTree, attributes
from converter.rootfs.tree import KIND_BITS

_SHOWN = 100  # characters of a value in a message


def content_digest(entry: Entry) -> bytes:
    """Return the SHA-256 of the blocks that hold a file's data, its last one padded with zeros."""
    hasher = hashlib.sha256()
    size = 0
    segments = entry.segments
    for piece in entry.data if segments is None else fill_blocks(segments, entry.data):
        hasher.update(piece)
        size += len(piece)
    hasher.update(bytes(-size % c.BLOCK_SIZE))
    return hasher.digest()


@dataclass(frozen=True, slots=True)
class TreeReport:
    """What was the same on both sides: names below the root, and bytes of content."""

    names: int
    content_bytes: int


def compare_tree(expected: ExpectedTree, reader: Reader) -> TreeReport:
    """Compare all of `reader`'s tree with `expected`, which has digests by `content_digest`.

    Raises IntegrityError that names the first difference by path, and what the reader raises.
    """
    return _Comparison(expected, reader).run()


class _Comparison:
    """The way through both trees. `_nodes` pairs inodes with expected nodes, where asked again."""

    def __init__(self, expected: ExpectedTree, reader: Reader) -> None:
        self._expected = expected
        self._reader = reader
        self._walk = Walk(reader)
        self._nodes: dict[int, int] = {}  # of directories and of files with several names
        self._inodes: dict[int, int] = {}  # the other way round, of the latter
        self._missing: dict[int, int] = {}  # directory's inode: expected names not found so far
        self._content_bytes = 0

    def run(self) -> TreeReport:
        names = 0
        for found in self._walk:
            node = self._node(found)
            if self._is_first_name(found, node):
                self._compare(found, node)
            names += 1
        for inode, missing in self._missing.items():
            if missing:
                self._fail_missing(inode)
        return TreeReport(names - 1, self._content_bytes)

    def _node(self, found: Found) -> int:
        """Return the expected node of a name."""
        tree = self._expected.tree
        if not found.name:
            return tree.root
        packed = tree.directories[self._nodes[found.directory]].get(found.name)
        if packed is None:
            self._fail(found, "is not in the image")
        self._missing[found.directory] -= 1
        return packed >> KIND_BITS

    def _is_first_name(self, found: Found, node: int) -> bool:
        """Say whether the inode is new; if it is not, it has to be the one that is expected."""
        tree = self._expected.tree
        inode = found.inode.node
        if found.inode.kind is Kind.DIRECTORY:
            if node in tree.directories:
                self._nodes[inode] = node
                self._missing[inode] = len(tree.directories[node])
            return True
        wanted, links = tree.links.get(node, 1), found.inode.fields.i_links_count
        if wanted != links:
            self._fail(found, f"has {links} names", expected=f"{wanted}")
        if links == 1:
            return True
        if self._nodes.setdefault(inode, node) != node:
            self._fail(found, "is the same file as a name that is another one in the image")
        if node not in self._inodes:
            self._inodes[node] = inode
            return True
        if self._inodes[node] != inode:
            self._fail(found, "is not the same file as a name that is the same one in the image")
        return False

    def _compare(self, found: Found, node: int) -> None:
        want = self._expected.nodes[node]
        stored = self._reader.entry(found.inode)
        have = attributes(stored)
        if have != want:
            want = _as_stored(want)
            have = have._replace(segments=_in_blocks(have))
        if have != want:
            field = next(
                name for name in Entry._fields if getattr(have, name) != getattr(want, name)
            )
            self._fail_field(found, field, have, want)
        if have.kind is Kind.FILE:
            # Sizes are equal, so a hostile disk costs no more to read than the image's layers.
            if content_digest(stored) != self._expected.digests[node]:
                self._fail(found, "has other content than in the image's layers")
            self._content_bytes += have.size

    def _fail_field(self, found: Found, field: str, have: Entry, want: Entry) -> NoReturn:
        if field == "xattrs":
            differing = {name for name, _ in set(have.xattrs) ^ set(want.xattrs)}
            name = min(differing)
            field = f"extended attribute {name!r}"
            values = dict(have.xattrs).get(name), dict(want.xattrs).get(name)
        elif field == "segments":
            self._fail(found, "has its holes elsewhere than in the image's layers")
        else:
            values = getattr(have, field), getattr(want, field)
        shown = [_show(field, value) for value in values]
        self._fail(found, f"has the {field} {shown[0]}", expected=shown[1])

    def _fail_missing(self, inode: int) -> NoReturn:
        """Name the first name of a directory that the image has and the disk has not."""
        names = {found.name for found in self._walk if found.directory == inode}
        wanted = self._expected.tree.directories[self._nodes[inode]]
        path = self._walk.path(inode, min(wanted.keys() - names))
        raise IntegrityError(f"The tree differs from the image: {path!r} is missing.")

    def _fail(self, found: Found, what: str, expected: str | None = None) -> NoReturn:
        where = self._walk.where(found.directory, found.name, found.inode.node)
        raise IntegrityError(
            f"The tree differs from the image: {where} {what}.",
            expected=expected and f"{expected}, as in the image's layers",
        )


def _as_stored(entry: Entry) -> Entry:
    """Return `entry` as ext4 can keep it: times have bounds, some ids in ACLs have no meaning."""
    return entry._replace(
        mtime_ns=decode_time(*encode_time(entry.mtime_ns)),
        xattrs=decode_xattrs(*encode_xattrs(entry.xattrs, b"it")),
        segments=_in_blocks(entry),
    )


def _in_blocks(entry: Entry) -> Segments | None:
    """Return (first block, number of blocks) of what holds the file's data; None for all of it."""
    if entry.segments is None:
        return None
    ranges = tuple(block_ranges(entry.segments))
    return None if ranges == ((0, -(-entry.size // c.BLOCK_SIZE)),) else ranges


def _show(field: str, value: object) -> str:
    if isinstance(value, Kind):
        return value.name.lower()
    if field == "mode":
        return f"{value:#o}"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
