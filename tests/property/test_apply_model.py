"""Random layers: the tree equals a model that knows nothing of nodes, only of paths."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import Created, Relinked, Removed, apply_layer
from converter.rootfs.tree import KIND_BITS, Tree

NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
KINDS = st.sampled_from(
    [Kind.FILE, Kind.DIRECTORY, Kind.FIFO, Kind.WHITEOUT, Kind.OPAQUE, Kind.FILE, Kind.DIRECTORY]
)
LAYERS = st.lists(
    st.lists(st.builds(Entry, PATHS, KINDS, st.integers(0, 0o777)), max_size=12), max_size=4
)


class Numbers:
    def __init__(self) -> None:
        self._next = itertools.count(10)
        self.new_directory = self.new_node = lambda: next(self._next)


def _apply_to_model(model: dict[bytes, Kind], layer: list[Entry]) -> None:
    """Overlay by paths: markers first on what was there, then the layer's own entries."""
    own: set[bytes] = set()

    def drop(path: bytes) -> None:
        for name in [name for name in model if name == path or name.startswith(path + b"/")]:
            del model[name]
            own.discard(name)

    def keeps(path: bytes) -> bool:
        return path in own or any(name.startswith(path + b"/") for name in own)

    for entry in layer:
        path = entry.path
        if entry.kind in {Kind.WHITEOUT, Kind.OPAQUE}:
            below = {name for name in model if name.startswith(path + b"/")}
            if entry.kind is Kind.WHITEOUT and path in model:
                below.add(path)
            for name in sorted(below, reverse=True):
                if not keeps(name):
                    del model[name]
            continue
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            if parent not in model:
                model[parent] = Kind.DIRECTORY
                own.add(parent)
        if not (entry.kind is Kind.DIRECTORY and model.get(path) is Kind.DIRECTORY):
            drop(path)
        model[path] = entry.kind
        own.add(path)


def _passes_through_a_file(model: dict[bytes, Kind], layer: list[Entry]) -> bool:
    trial = dict(model)
    for number, entry in enumerate(layer):
        parts = entry.path.split(b"/")
        last = len(parts) + (entry.kind is Kind.OPAQUE)
        for depth in range(1, last):
            if trial.get(b"/".join(parts[:depth]), Kind.DIRECTORY) is not Kind.DIRECTORY:
                return True
        trial = dict(model)
        _apply_to_model(trial, layer[: number + 1])
    return False


@settings(max_examples=400, deadline=None)
@given(LAYERS)
def test_tree_equals_the_model_of_paths(layers: list[list[Entry]]) -> None:
    tree, numbers, model = Tree.empty(2), Numbers(), {}
    alive: dict[int, Kind] = {}
    for layer in layers:
        if _passes_through_a_file(model, layer):
            return  # an error by rule; tests/unit/rootfs has those
        _apply_to_model(model, layer)
        for change in apply_layer(tree, layer, numbers):
            if type(change) is Created:
                assert change.node not in alive
                alive[change.node] = change.entry.kind
            elif type(change) is Removed:
                assert alive.pop(change.node) is change.kind
            assert type(change) is not Relinked
        assert {path: kind for path, _, kind in tree.walk()} == model
        named = {
            packed >> KIND_BITS for names in tree.directories.values() for packed in names.values()
        }
        assert named == set(alive)
