"""The tree that layers make, with every attribute and a digest of every file's content. Pure.

What a disk is compared with. It is the layers' own word: names come from the same rules as in a
conversion (`converter.rootfs.apply`), nothing comes from what a conversion wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import Created, Removed, Updated, apply_layer
from converter.rootfs.tree import Tree

_ROOT = 1  # 0 is no node


class _Numbers:
    """Node numbers behind the root's."""

    def __init__(self) -> None:
        self._next = count(_ROOT + 1)

    def new_directory(self) -> int:
        return next(self._next)

    def new_node(self) -> int:
        return next(self._next)


@dataclass(slots=True)
class ExpectedTree:
    """A tree that grows layer by layer; some 500 bytes of memory per file.

    `digest` reads a file's data and returns its digest. `nodes` has the attributes of each node as
    an entry without path and data, `digests` those of regular files.
    """

    digest: Callable[[Entry], bytes]
    tree: Tree = field(default_factory=lambda: Tree.empty(_ROOT))
    nodes: dict[int, Entry] = field(default_factory=lambda: {_ROOT: Entry(b"", Kind.DIRECTORY)})
    digests: dict[int, bytes] = field(default_factory=dict)
    _numbers: _Numbers = field(default_factory=_Numbers)

    def apply(self, changes: Iterable[Entry]) -> None:
        """Apply a layer, whiteouts included, and read all data. Raises as `apply_layer` does."""
        for change in apply_layer(self.tree, changes, self._numbers):
            if isinstance(change, Created):
                if change.entry.kind is Kind.FILE:
                    self.digests[change.node] = self.digest(change.entry)
                self.nodes[change.node] = attributes(change.entry)
            elif isinstance(change, Updated):
                self.nodes[change.node] = attributes(change.entry)
            elif isinstance(change, Removed):
                del self.nodes[change.node]
                self.digests.pop(change.node, None)


def attributes(entry: Entry) -> Entry:
    """Return `entry` without path and data, and without what its kind does not have."""
    kind = entry.kind
    device = kind is Kind.CHARACTER or kind is Kind.BLOCK
    return entry._replace(
        path=b"",
        data=(),
        size=entry.size if kind is Kind.FILE else 0,
        target=entry.target if kind is Kind.SYMLINK else b"",
        major=entry.major if device else 0,
        minor=entry.minor if device else 0,
    )
