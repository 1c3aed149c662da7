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
from converter.layer.paths import show

KIND_BITS = 3  # a directory maps a name to (node << KIND_BITS | kind): one int, no tuple
KIND_MASK = (1 << KIND_BITS) - 1
MAX_SYMLINKS = 255  # followed in one path, as umoci and the kernel's neighbours do
MAX_STEPS = 1 << 14  # in one path: links with long texts must not multiply its cost by 255


class BlockedError(IntegrityError):
    """A path leads through what is not a directory."""


class Numbering(Protocol):
    """Where new nodes come from."""

    def new_directory(self) -> int:
        """Return the number of a new directory."""

    def new_node(self) -> int:
        """Return the number of a new node of any other kind."""


@dataclass(slots=True)
class Journal:
    """What changed in a tree since it was last stored.

    `made` and `dropped` are directories; `before` has the names that an older directory had before
    its first change; `nodes` are those whose link count or symlink text changed.
    """

    made: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    before: dict[int, dict[bytes, int]] = field(default_factory=dict)
    nodes: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Tree:
    """A mutable tree; `directories[node]` maps each name to its packed node and kind.

    `links` counts the names of a non-directory that has more than one; `symlinks` has the text of
    every symbolic link. Changes go through the methods, which keep the journal. `steps` counts what
    ways through the tree have cost so far, and `retreats` how often they came back from names that
    do not exist; neither is part of the value.
    """

    root: int
    directories: dict[int, dict[bytes, int]] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)
    symlinks: dict[int, bytes] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    steps: int = field(default=0, compare=False)
    retreats: int = field(default=0, compare=False)

    @classmethod
    def empty(cls, root: int) -> Tree:
        """Return a tree that is nothing but the directory `root`."""
        tree = cls(root)
        tree.make_directory(root, root)
        return tree

    def bind(self, directory: int, name: bytes, packed: int) -> None:
        """Give a node, packed with its kind, a name that is free."""
        names = self.directories[directory]
        self._remember(directory, names)
        names[name] = packed

    def unbind(self, directory: int, name: bytes) -> int:
        """Take a name away; return its packed node and kind."""
        names = self.directories[directory]
        self._remember(directory, names)
        return names.pop(name)

    def _remember(self, directory: int, names: dict[bytes, int]) -> None:
        journal = self.journal
        if directory not in journal.made and directory not in journal.before:
            journal.before[directory] = dict(names)

    def make_directory(self, node: int, parent: int) -> None:
        """Enter an empty directory; its name is another matter."""
        self.directories[node] = {}
        self.parents[node] = parent
        self.journal.made.add(node)

    def drop_directory(self, node: int) -> dict[bytes, int]:
        """Forget a directory; return the names that it had."""
        journal = self.journal
        if node in journal.made:
            journal.made.discard(node)
        else:
            journal.dropped.add(node)
            journal.before.pop(node, None)
        del self.parents[node]
        return self.directories.pop(node)

    def set_links(self, node: int, count: int) -> None:
        """Count the names of a node that is not a directory; 0 forgets the node."""
        if count > 1:
            self.links[node] = count
        else:
            self.links.pop(node, None)
        if not count:
            self.symlinks.pop(node, None)
        self.journal.nodes.add(node)

    def set_symlink(self, node: int, text: bytes) -> None:
        """Enter the text of a symbolic link."""
        self.symlinks[node] = text
        self.journal.nodes.add(node)

    def descend(self, directory: int, components: list[bytes]) -> tuple[int, list[bytes]]:
        """Go from `directory` down the components of a path, following any symlink on the way.

        Returns the directory reached and the names below it that do not exist (none of them is
        dots): an empty list if all of the way exists. Links are resolved inside this tree as
        umoci's SecureJoin does: absolute ones start at the root, `..` stops there. Raises
        BlockedError when the way leads through a file, IntegrityError on a loop or when it is too
        long.
        """
        pending = components[::-1]
        missing: list[bytes] = []
        followed = steps = 0
        while pending:
            component = pending.pop()
            steps += 1
            if steps > MAX_STEPS:
                raise IntegrityError(
                    f"The way through its parents has more than {MAX_STEPS} steps.",
                    expected="symbolic links that lead somewhere sooner",
                )
            if component in {b"", b"."}:
                continue
            if component == b"..":
                if missing:
                    missing.pop()
                    self.retreats += 1
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
                    raise IntegrityError(
                        f"Symbolic links form a loop at {show(component)}.",
                        expected=f"at most {MAX_SYMLINKS} links on the way to a member",
                    )
                text = self.symlinks[packed >> KIND_BITS]
                if text.startswith(b"/"):
                    directory = self.root
                pending.extend(reversed(text.split(b"/")))
            else:
                raise BlockedError(
                    f"Its path leads through {show(component)}, which is not a directory.",
                    expected="a directory there, or a whiteout of it in the same layer",
                )
        self.steps += steps
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
