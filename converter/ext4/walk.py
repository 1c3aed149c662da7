"""Every name of a stored file system, from the root down. Owns the order and the way back up.

Iterative, and without the full path of each name: a hostile disk nests deeper than Python recurses,
and paths of a deep chain are quadratic in its length. A path is made when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.reader import Reader, StoredInode
from converter.layer.entry import Kind

_SHOWN_BYTES = 200  # of a path at either end, in messages


class Found(NamedTuple):
    """A name in the directory with the inode number `directory`, and the inode it stands for.

    The root is found first, under the name b"" in itself.
    """

    directory: int
    name: bytes
    inode: StoredInode


class Walk:
    """Iterate over `Found` of a file system: a directory before what is in it, names in byte order.

    What is in a directory is read after whoever iterates has had the directory itself, so that its
    blocks can be checked first. Raises IntegrityError for what is wrong on the way, named by path:
    a directory with two names, a reserved inode, an inode of another kind than its name says.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._places: dict[int, tuple[int, bytes]] = {}  # of directories: the one above, the name

    def __iter__(self) -> Iterator[Found]:
        """Begin at the root."""
        reader, places = self._reader, self._places
        root = c.EXT4_ROOT_INO
        places.clear()
        places[root] = (root, b"")
        yield Found(root, b"", self._inode(root, b"", root, Kind.DIRECTORY))
        pending = [root]  # numbers, for they are small: the inodes are read again
        while pending:
            directory = pending.pop()
            above, own_name = places[directory]
            try:
                names = reader.names(reader.inode(directory), above)
            except IntegrityError as error:
                error.add_context(self.where(above, own_name, directory))
                raise
            below = []
            for name, node, kind in names:
                child = self._inode(directory, name, node, kind)
                if kind is Kind.DIRECTORY:
                    if node in places:
                        raise IntegrityError(
                            f"{self.where(directory, name, node)} is a directory that is also "
                            f"{self.path(*places[node])!r}."
                        )
                    places[node] = (directory, name)
                    below.append(node)
                yield Found(directory, name, child)
            pending.extend(reversed(below))

    def path(self, directory: int, name: bytes) -> bytes:
        """Return the path of `name` in a directory that has been found; b"" is the root."""
        parts = [name]
        while directory != c.EXT4_ROOT_INO:
            directory, above = self._places[directory]
            parts.append(above)
        return b"/".join(reversed(parts))

    def where(self, directory: int, name: bytes, node: int) -> str:
        """Return path and inode number for a message."""
        path = self.path(directory, name)
        if len(path) > 2 * _SHOWN_BYTES:
            path = path[:_SHOWN_BYTES] + b"..." + path[-_SHOWN_BYTES:]
        return f"{path!r} (inode {node})" if path else f"the root (inode {node})"

    def _inode(self, directory: int, name: bytes, node: int, kind: Kind) -> StoredInode:
        try:
            if node < c.EXT4_GOOD_OLD_FIRST_INO and (name or node != c.EXT4_ROOT_INO):
                raise IntegrityError("Its inode is a reserved one.")
            inode = self._reader.inode(node)
            if inode.kind is not kind:
                raise IntegrityError(
                    f"Its inode is of the kind {inode.kind.name}.",
                    expected=f"{kind.name}, as the directory says",
                )
        except IntegrityError as error:
            error.add_context(self.where(directory, name, node))
            raise
        return inode
