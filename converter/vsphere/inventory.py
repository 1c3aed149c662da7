"""The inventory as a tree of names, and the finding of things in it as govc finds them. Pure.

Where nothing is named, a thing is found if there is only one that it can be; where there are more,
the error lists them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from converter.errors import NotFoundError, UsageError
from converter.vsphere import c_vsphere as c

_LISTED = 12  # of a long list, in an error
_ROOT_POOL = f"/{c.ROOT_POOL}/"


class Kind(enum.Enum):
    """What is looked for: in words, the option that names it, the types that it is, and its folder.

    Paths that are not absolute begin in that folder of the datacenter.
    """

    DATACENTER = ("datacenter", "--datacenter", (c.DATACENTER,), "")
    DATASTORE = ("datastore", "--datastore", (c.DATASTORE,), c.DATASTORE_FOLDER)
    POOL = (
        "resource pool",
        "--resource-pool",
        (c.RESOURCE_POOL, c.VIRTUAL_APP),
        c.HOST_FOLDER,
    )
    FOLDER = ("folder", "--folder", (c.FOLDER,), c.VM_FOLDER)
    CLUSTER = ("cluster", "--cluster", (c.CLUSTER,), c.HOST_FOLDER)
    HOST = ("host", "--host", (c.HOST,), c.HOST_FOLDER)
    NETWORK = (
        "network",
        "--network",
        (c.NETWORK, c.PORT_GROUP, c.OPAQUE_NETWORK),
        c.NETWORK_FOLDER,
    )

    def __init__(self, words: str, option: str, types: tuple[str, ...], folder: str) -> None:
        self.words = words
        self.option = option
        self.types = types
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Node:
    """One object. `datastores` and `networks` are the ids of what a compute resource's hosts have.

    `is_uplink` marks a port group for a switch's own cables, to which no machine connects.
    """

    id: str
    kind: str  # the API's name of its type
    name: str
    parent: str | None  # an id; one that is not in the tree is the root
    datastores: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    is_uplink: bool = False
    reference: object = field(default=None, compare=False, repr=False)  # for whoever made it


class Inventory:
    """All nodes that one may see, by id, with their paths."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Take the nodes, in any order."""
        self._nodes: Mapping[str, Node] = {node.id: node for node in nodes}

    def path(self, node: Node) -> str:
        """Return where a node is: /DC0/host/DC0_C0/Resources."""
        return "/" + "/".join(one.name for one in reversed([node, *self.above(node)]))

    def above(self, node: Node) -> Sequence[Node]:
        """Return the nodes above one, the nearest first. A circle, which no server has, is cut."""
        found: list[Node] = []
        while node.parent is not None and (up := self._nodes.get(node.parent)) is not None:
            if up in found:
                break
            found.append(up)
            node = up
        return found

    def of(self, kind: Kind, *, below: Node | None = None) -> Sequence[Node]:
        """Return the nodes of a kind, of those below a node if one is given, in order of path."""
        base = f"{self.path(below)}/{kind.folder}" if below is not None and kind.folder else None
        found = []
        for node in self._nodes.values():
            if node.kind not in kind.types or node.is_uplink:
                continue
            path = self.path(node)
            if base is None or path == base or path.startswith(f"{base}/"):
                found.append((path, node))
        return [node for _path, node in sorted(found, key=lambda one: (one[0], one[1].id))]

    def find(
        self,
        kind: Kind,
        wish: str | None,
        *,
        datacenter: Node | None = None,
        among: Sequence[Node] | None = None,
        place: str = "",
    ) -> Node:
        """Return the one node that `wish` names, or the only one there is if it names none.

        A name alone is looked for everywhere in the datacenter, a path in the folder of the kind
        unless it begins with a slash; both may have * and ? within a name. `among` limits what may
        be found, and `place` says to what ("that cluster X has"). Raises NotFoundError, UsageError.
        """
        all_there = self.of(kind, below=datacenter) if among is None else among
        where = place or (f"in {self.path(datacenter)}" if datacenter is not None else "there")
        matching = [
            node for node in all_there if wish is None or self._names(kind, wish, node, datacenter)
        ]
        if len(matching) == 1:
            return matching[0]
        there = _list([self.path(node) for node in matching or all_there])
        if matching:
            count = f"{len(matching)} {where}"
            raise UsageError(
                f"Which {kind.words} is meant is not clear: there are {count}"
                + (f", and {wish!r} can mean each." if wish is not None else "."),
                expected=f"one of {there}",
                hint=f"Name it with {kind.option}; a path is clearer than a name.",
            )
        if wish is not None and all_there:
            raise NotFoundError(
                f"There is no {kind.words} {wish!r} {where}.",
                expected=f"one of {there}",
                cause=f"no-{kind.words.replace(' ', '-')}",
            )
        raise NotFoundError(
            f"There is no {kind.words} {where}"
            + (f", so none that is named {wish!r}." if wish else "."),
            hint="Check that the user may see it: what one may not read is not listed.",
            cause=f"no-{kind.words.replace(' ', '-')}",
        )

    def child(self, node: Node, name: str, kinds: Sequence[str]) -> Node | None:
        """Return what is called so right below a node and is of one of the API's types."""
        for one in self._nodes.values():
            if one.parent == node.id and one.name == name and one.kind in kinds:
                return one
        return None

    def root_pool(self, compute: Node) -> Node:
        """Return the resource pool that is all of a cluster or host. Raises NotFoundError."""
        for node in self._nodes.values():
            if node.parent == compute.id and node.kind == c.RESOURCE_POOL:
                return node
        raise NotFoundError(
            f"The resource pool of {self.path(compute)} is not to be seen.",
            hint="The user needs System.View on it.",
        )

    def compute_of(self, node: Node) -> Node:
        """Return the cluster or lone host that a pool or host belongs to. Raises NotFoundError."""
        for up in self.above(node):
            if up.kind in (c.CLUSTER, c.COMPUTE_RESOURCE):
                return up
        raise NotFoundError(
            f"Which cluster or host {self.path(node)} belongs to is not to be seen.",
            hint="The user needs System.View on what is above it.",
        )

    def computes(self, *, datacenter: Node) -> Sequence[Node]:
        """Return the clusters and lone hosts of a datacenter, in order of path."""
        base = f"{self.path(datacenter)}/"
        found = [
            (self.path(node), node)
            for node in self._nodes.values()
            if node.kind in (c.CLUSTER, c.COMPUTE_RESOURCE)
        ]
        return [
            node for path, node in sorted(found, key=lambda one: one[0]) if path.startswith(base)
        ]

    def hosts_of(self, compute: Node) -> Sequence[Node]:
        """Return the hosts of a cluster, or the lone host itself, in order of name."""
        hosts = [
            node
            for node in self._nodes.values()
            if node.kind == c.HOST and node.parent == compute.id
        ]
        return sorted(hosts, key=lambda node: node.name)

    def _names(self, kind: Kind, wish: str, node: Node, datacenter: Node | None) -> bool:
        if "/" not in wish:
            return _is_like(node.name, wish)
        path = self.path(node)
        if wish.startswith("/"):
            return _matches(path, wish)
        if kind is Kind.POOL and _matches(path.partition(_ROOT_POOL)[2], wish):
            return True  # below the cluster's or host's own, as projects name theirs
        bases = ["/"]
        if datacenter is not None:
            bases.append(f"{self.path(datacenter)}/")
            bases.append(f"{self.path(datacenter)}/{kind.folder}/")
        return any(_matches(path, base + wish) for base in bases)


def _matches(path: str, pattern: str) -> bool:
    """Say whether a path matches a pattern, name by name: a * does not reach over a slash."""
    names, patterns = path.strip("/").split("/"), pattern.strip("/").split("/")
    return len(names) == len(patterns) and all(map(_is_like, names, patterns))


def _is_like(name: str, pattern: str) -> bool:
    """Match with * and ? alone: brackets are common in names."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_LISTED])
    return shown if len(paths) <= _LISTED else f"{shown} and {len(paths) - _LISTED} more"
