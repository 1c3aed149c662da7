"""The file tree of an image as a value. Owns names, parents, link counts and symlink texts.

A node is a number that whoever stores the tree gave it (for ext4, the inode number). Attributes and
content live with the storage; the tree has what is needed to apply the next layer: which names
exist, where symlinks lead, when a node's last name goes. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from converter.errors import IntegrityError
from converter.layer.entry import Kind

KIND_BITS = 3  # a directory maps a name to (node << KIND_BITS | kind): one int, no tuple
KIND_MASK = (1 << KIND_BITS) - 1
MAX_SYMLINKS = 255  # followed in one path, as umoci and the kernel's neighbours do


class Numbering(Protocol):
    """Where new nodes come from."""

    def new_directory(self) -> int:
        """Return the number of a new directory."""

    def new_node(self) -> int:
        """Return the number of a new node of any other kind."""


@dataclass(slots=True)
class Tree:
    """A mutable tree; `directories[node]` maps each name to its packed node and kind.

    `links` counts the names of a non-directory that has more than one; `symlinks` has the text of
    every symbolic link.
    """

    root: int
    directories: dict[int, dict[bytes, int]] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)
    symlinks: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def empty(cls, root: int) -> Tree:
        """Return a tree that is nothing but the directory `root`."""
        return cls(root, {root: {}}, {root: root})

    def lookup(self, directory: int, name: bytes) -> tuple[int, Kind] | None:
        """Return node and kind of `name`, or None. Does not follow a symlink."""
        packed = self.directories[directory].get(name)
        return None if packed is None else (packed >> KIND_BITS, Kind(packed & KIND_MASK))

    def bind(self, directory: int, name: bytes, node: int, kind: Kind) -> None:
        """Give `node` a name."""
        self.directories[directory][name] = node << KIND_BITS | kind

    def descend(self, directory: int, name: bytes) -> tuple[int, list[bytes]]:
        """Step from `directory` through one component of a path, any symlink there followed.

        Returns the directory reached and the names below it that do not exist (none of them is
        dots): an empty list if all of the way exists. Links are resolved inside this tree as
        umoci's SecureJoin does: absolute ones start at the root, `..` stops there. Raises
        IntegrityError on a loop or when the way leads through a file.
        """
        pending = [name]
        missing: list[bytes] = []
        followed = 0
        while pending:
            component = pending.pop()
            if component in {b"", b"."}:
                continue
            if component == b"..":
                if missing:
                    missing.pop()
                else:
                    directory = self.parents[directory]
                continue
            packed = None if missing else self.directories[directory].get(component)
            if packed is None:
                missing.append(component)
                continue
            kind = packed & KIND_MASK
            if kind == Kind.DIRECTORY:
                directory = packed >> KIND_BITS
            elif kind == Kind.SYMLINK:
                followed += 1
                if followed > MAX_SYMLINKS:
                    raise IntegrityError(f"Symbolic links form a loop at {component!r}.")
                text = self.symlinks[packed >> KIND_BITS]
                if text.startswith(b"/"):
                    directory = self.root
                pending.extend(reversed(text.split(b"/")))
            else:
                raise IntegrityError(
                    f"A member's path leads through {component!r}, which is not a directory.",
                    expected="a directory there, or a whiteout of it in the same layer",
                )
        return directory, missing

    def walk(self) -> Iterator[tuple[bytes, int, Kind]]:
        """Yield (path, node, kind) of everything below the root, sorted within each directory."""
        pending = [(b"", self.root)]
        while pending:
            prefix, directory = pending.pop()
            for name, packed in sorted(self.directories[directory].items()):
                node, kind = packed >> KIND_BITS, Kind(packed & KIND_MASK)
                yield prefix + name, node, kind
                if kind is Kind.DIRECTORY:
                    pending.append((prefix + name + b"/", node))
