"""Apply a layer to a tree: entries in, changes out. Owns the semantics of overlaying; pure.

The rules are those of the OCI image specification and, where it is silent, of umoci and containerd:
a directory over a directory merges, anything else replaces; whiteouts and opaque markers touch only
what lower layers left, wherever they stand in the layer; symlinks in the way are followed inside
the root; a missing parent is made (0755, root, epoch).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple

from converter.errors import IntegrityError, SaltflatError
from converter.layer.entry import Entry, Kind
from converter.layer.paths import MAX_NAME_BYTES, show
from converter.rootfs.tree import KIND_BITS, KIND_MASK, BlockedError, Numbering, Tree


class Created(NamedTuple):
    """A new node with the attributes and data of `entry`; read its data before the next change."""

    node: int
    entry: Entry


class Updated(NamedTuple):
    """An existing directory takes over the attributes of `entry`."""

    node: int
    entry: Entry


class Relinked(NamedTuple):
    """A node that is not a directory now has `links` names, the newest of them `path`."""

    node: int
    links: int
    path: bytes = b""


class Removed(NamedTuple):
    """A node lost its last name."""

    node: int
    kind: Kind


class Listed(NamedTuple):
    """The names in the directory `node` changed in this layer; told once, after all layers."""

    node: int


# A layer's steps from name to name, links followed. Remembered paths cost none: honest layers stay
# below a twentieth of it, while two million members of the longest way would take an hour.
MAX_LAYER_STEPS = 1 << 27
# Parents' paths are remembered up to so many bytes: a hostile layer has millions of long ones.
_MAX_REMEMBERED_BYTES = 16 << 20

Change = Created | Updated | Relinked | Removed | Listed


def apply_layer(tree: Tree, entries: Iterable[Entry], numbers: Numbering) -> Iterator[Change]:
    """Change `tree` by a layer's entries and yield what that means for the nodes.

    Raises IntegrityError for an entry that no tree could take. The tree is then half changed and
    must be thrown away.
    """
    return apply_layers(tree, (entries,), numbers)


def apply_layers(
    tree: Tree, layers: Iterable[Iterable[Entry]], numbers: Numbering
) -> Iterator[Change]:
    """Apply several layers, base first, and tell once at the end which directories changed.

    A layer's entries are read to their end before the next layer is asked for. Raises as
    `apply_layer` does.
    """
    listed: set[int] = set()
    for entries in layers:
        yield from _Application(tree, numbers, listed).run(entries)
    for node in sorted(listed):
        if node in tree.directories:
            yield Listed(node)


class _Application:
    """The memory of one layer: what it made, and the paths it has already resolved.

    Directories whose names changed are entered into `listed`.
    """

    def __init__(self, tree: Tree, numbers: Numbering, listed: set[int]) -> None:
        self._tree = tree
        self._numbers = numbers
        self._own: set[int] = set()  # directories made by this layer: all their names are fresh
        self._fresh: dict[int, set[bytes]] = {}  # names this layer put into older directories
        self._listed = listed
        self._resolved: dict[bytes, int] = {b"": tree.root}
        self._resolved_bytes = 0
        self._pruned: set[int] = set()  # directories without names of lower layers, all the way
        self._last_step = tree.steps + MAX_LAYER_STEPS

    def run(self, entries: Iterable[Entry]) -> Iterator[Change]:
        for entry in entries:
            try:
                yield from self._apply(entry)
            except SaltflatError as error:
                error.add_context(f"member {show(entry.path)}")
                raise

    def _apply(self, entry: Entry) -> Iterable[Change]:
        kind = entry.kind
        if kind is Kind.OPAQUE:
            return self._empty_of_old(entry.path)
        if not entry.path:
            if kind is not Kind.DIRECTORY:
                raise IntegrityError(f"The layer makes the root a {kind.name.lower()}.")
            return (Updated(self._tree.root, entry),)
        parent_path, _, name = entry.path.rpartition(b"/")
        if kind is Kind.WHITEOUT or kind is Kind.GONE:
            parent = self._find(parent_path)
            if parent is None or name not in self._tree.directories[parent]:
                return ()
            return (self._remove if kind is Kind.GONE else self._white_out)(parent, name)
        parent = self._resolved.get(parent_path)
        if parent is None or kind is Kind.HARDLINK or name in self._tree.directories[parent]:
            return self._place(entry, parent_path, name)
        return (self._create(parent, name, entry),)  # nearly every member: no generator for it

    def _place(self, entry: Entry, parent_path: bytes, name: bytes) -> Iterator[Change]:
        """Put `entry` where its parents may be missing or something may be in its place."""
        tree = self._tree
        parent = self._resolved.get(parent_path)
        if parent is None:
            parent = yield from self._make_parents(parent_path)
        if entry.kind is Kind.HARDLINK:
            yield from self._link(entry, parent, name)
            return
        packed = tree.directories[parent].get(name)
        if packed is not None:
            if entry.kind is Kind.DIRECTORY and packed & KIND_MASK == Kind.DIRECTORY:
                self._mark_fresh(parent, name)
                yield Updated(packed >> KIND_BITS, entry)
                return
            yield from self._remove(parent, name)
        yield self._create(parent, name, entry)

    def _create(self, parent: int, name: bytes, entry: Entry) -> Created:
        tree = self._tree
        if entry.kind is Kind.DIRECTORY:
            node = self._numbers.new_directory()
            tree.make_directory(node, parent)
            self._own.add(node)
            self._listed.add(node)
        else:
            node = self._numbers.new_node()
            if entry.kind is Kind.SYMLINK:
                tree.set_symlink(node, entry.target)
                if tree.retreats:  # a way through what was missing may be another one now
                    self._forget_paths()
        tree.bind(parent, name, node << KIND_BITS | entry.kind)
        self._mark_fresh(parent, name)
        self._listed.add(parent)
        return Created(node, entry)

    def _link(self, entry: Entry, parent: int, name: bytes) -> Iterator[Change]:
        tree = self._tree
        packed = self._link_target(entry)
        if tree.directories[parent].get(name) == packed:
            self._mark_fresh(parent, name)
            return
        node = packed >> KIND_BITS
        if name in tree.directories[parent]:
            yield from self._remove(parent, name)
            self._link_target(entry)  # still there, or it was reached through what it replaces
        count = tree.links.get(node, 1) + 1
        tree.set_links(node, count)
        tree.bind(parent, name, packed)
        self._mark_fresh(parent, name)
        self._listed.add(parent)
        yield Relinked(node, count, entry.path)

    def _link_target(self, entry: Entry) -> int:
        """Return the packed node of what `entry` is a hard link to."""
        parent_path, _, name = entry.target.rpartition(b"/")
        parent = self._find(parent_path)
        packed = self._tree.directories[parent].get(name) if parent else None
        if packed is None or packed & KIND_MASK == Kind.DIRECTORY:
            what = "is missing" if packed is None else "is a directory"
            raise IntegrityError(
                f"It is a hard link to {show(entry.target)}, which {what}.",
                expected="a file of this image that stands earlier, and not in its place",
            )
        return packed

    # Paths

    def _make_parents(self, path: bytes) -> Generator[Change, None, int]:
        """Return the directory `path` leads to, making what is missing."""
        directory, missing = self._descend(path)
        for name in missing:
            if len(name) > MAX_NAME_BYTES:  # not a member's: those are checked where they are read
                raise IntegrityError(
                    f"A link on its path leads to a name of {len(name)} bytes: {show(name[:80])}.",
                    expected=f"at most {MAX_NAME_BYTES} bytes, the file system's limit",
                )
            created = self._create(directory, name, Entry(path, Kind.DIRECTORY))
            yield created
            directory = created.node
        self._remember(path, directory)
        return directory

    def _find(self, path: bytes) -> int | None:
        """Return the directory that `path` leads to, or None if there is none."""
        known = self._resolved.get(path)
        if known is not None:
            return known
        try:
            directory, missing = self._descend(path)
        except BlockedError:
            return None
        if missing:
            return None
        self._remember(path, directory)
        return directory

    def _descend(self, path: bytes) -> tuple[int, list[bytes]]:
        if self._tree.steps > self._last_step:
            raise IntegrityError(
                f"The ways to the layer's members have more than {MAX_LAYER_STEPS} steps in all.",
                expected="shorter paths, or fewer symbolic links on them",
            )
        above, _, name = path.rpartition(b"/")
        known = self._resolved.get(above)
        if known is not None:  # as in any archive that lists a directory before what is in it
            return self._tree.descend(known, [name])
        return self._tree.descend(self._tree.root, path.split(b"/"))

    def _remember(self, path: bytes, directory: int) -> None:
        self._resolved_bytes += len(path)
        if self._resolved_bytes > _MAX_REMEMBERED_BYTES:
            self._forget_paths()
        self._resolved[path] = directory

    def _mark_fresh(self, directory: int, name: bytes) -> None:
        if directory not in self._own:
            self._fresh.setdefault(directory, set()).add(name)

    def _is_fresh(self, directory: int, name: bytes) -> bool:
        return directory in self._own or name in self._fresh.get(directory, ())

    # Removal

    def _remove(self, directory: int, name: bytes) -> Iterator[Change]:
        """Take `name` away with all that is below it, whichever layer it came from."""
        tree = self._tree
        packed = tree.unbind(directory, name)
        self._listed.add(directory)
        pending = [packed]
        while pending:
            packed = pending.pop()
            node, kind = packed >> KIND_BITS, Kind(packed & KIND_MASK)
            if kind is Kind.DIRECTORY:
                pending.extend(tree.drop_directory(node).values())
                self._fresh.pop(node, None)
                self._own.discard(node)
                self._forget_paths()
                yield Removed(node, kind)
                continue
            if kind is Kind.SYMLINK:
                self._forget_paths()
            count = tree.links.get(node, 1) - 1
            if count or kind is Kind.SYMLINK:
                tree.set_links(node, count)
            yield Relinked(node, count) if count else Removed(node, kind)

    def _forget_paths(self) -> None:
        if len(self._resolved) > 1:
            self._resolved = {b"": self._tree.root}
            self._resolved_bytes = 0

    def _white_out(self, directory: int, name: bytes) -> Iterator[Change]:
        packed = self._tree.directories[directory][name]
        node = packed >> KIND_BITS
        if packed & KIND_MASK == Kind.DIRECTORY:
            yield from self._prune(node)
            if self._tree.directories[node]:
                if not self._is_fresh(directory, name):
                    # Only this layer's files are left in it: it is an implicit parent now.
                    yield Updated(node, Entry(b"", Kind.DIRECTORY))
                return
        if not self._is_fresh(directory, name):
            yield from self._remove(directory, name)

    def _empty_of_old(self, path: bytes) -> Iterator[Change]:
        directory = self._find(path)
        if directory is not None:
            yield from self._prune(directory)

    def _prune(self, top: int) -> Iterator[Change]:
        """Remove from `top` downwards every name that lower layers put there.

        A directory of theirs stays if this layer has something in it. Iterative, since a hostile
        image nests deeper than Python recurses: parents are listed first and worked off backwards.
        What was pruned once stays so, since only this layer adds names: a million markers on one
        directory walk it once.
        """
        tree = self._tree
        if top in self._pruned:
            return
        order = [(0, b"", top)]
        for _, _, directory in order:
            if directory not in self._own and directory not in self._pruned:
                order.extend(
                    (directory, name, packed >> KIND_BITS)
                    for name, packed in tree.directories[directory].items()
                    if packed & KIND_MASK == Kind.DIRECTORY
                )
        for parent, parent_name, directory in reversed(order):
            if directory in self._own:
                continue
            if directory not in self._pruned:
                self._pruned.add(directory)
                for name, packed in list(tree.directories[directory].items()):
                    if packed & KIND_MASK != Kind.DIRECTORY and not self._is_fresh(directory, name):
                        yield from self._remove(directory, name)
            if directory == top or self._is_fresh(parent, parent_name):
                continue
            if tree.directories[directory]:
                # Only this layer's files are left in it: it is an implicit parent now.
                yield Updated(directory, Entry(b"", Kind.DIRECTORY))
            else:
                yield from self._remove(parent, parent_name)
