"""The rules of overlaying one layer on a tree, one case each."""

from __future__ import annotations

import itertools

import pytest

from converter.errors import IntegrityError
from converter.layer.entry import Entry, Kind
from converter.rootfs import apply
from converter.rootfs.apply import Created, Listed, Relinked, Removed, Updated, apply_layer
from converter.rootfs.expected import ExpectedTree
from converter.rootfs.tree import KIND_BITS, Tree


class Numbers:
    """Numbers that only count up."""

    def __init__(self) -> None:
        self._next = itertools.count(10)

    def new_directory(self) -> int:
        return next(self._next)

    def new_node(self) -> int:
        return next(self._next)


class Overlay:
    """A tree, and what the last layer did to it."""

    def __init__(self, *layers: list[Entry]) -> None:
        self.tree = Tree.empty(2)
        self._numbers = Numbers()
        self.changes: list[object] = []
        for layer in layers:
            self.apply(layer)

    def apply(self, layer: list[Entry]) -> None:
        self.changes = list(apply_layer(self.tree, layer, self._numbers))

    def paths(self) -> dict[bytes, Kind]:
        return {path: kind for path, _, kind in self.tree.walk()}

    def node(self, path: bytes) -> int:
        return {name: node for name, node, _ in self.tree.walk()}[path]

    def of(self, kind: type) -> list[object]:
        return [change for change in self.changes if type(change) is kind]


def _file(path: bytes) -> Entry:
    return Entry(path, Kind.FILE)


def _dir(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, Kind.DIRECTORY, mode)


def _symlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.SYMLINK, target=target)


def _hardlink(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.HARDLINK, target=target)


def _whiteout(path: bytes) -> Entry:
    return Entry(path, Kind.WHITEOUT)


def _opaque(path: bytes) -> Entry:
    return Entry(path, Kind.OPAQUE)


def test_missing_parents_are_made_with_documented_attributes() -> None:
    overlay = Overlay([_file(b"a/b/f")])
    assert overlay.paths() == {
        b"a": Kind.DIRECTORY,
        b"a/b": Kind.DIRECTORY,
        b"a/b/f": Kind.FILE,
    }
    parent = overlay.of(Created)[0]
    assert isinstance(parent, Created)
    assert (parent.entry.mode, parent.entry.uid, parent.entry.mtime_ns) == (0o755, 0, 0)


def test_directory_over_directory_merges_and_keeps_its_node() -> None:
    overlay = Overlay([_dir(b"d"), _file(b"d/old")])
    node = overlay.node(b"d")
    overlay.apply([_dir(b"d", 0o700), _file(b"d/new")])
    assert set(overlay.paths()) == {b"d", b"d/old", b"d/new"}
    assert overlay.node(b"d") == node
    assert overlay.of(Updated) == [Updated(node, _dir(b"d", 0o700))]
    assert overlay.of(Listed) == [Listed(node)]


def test_file_replaces_directory_and_back() -> None:
    overlay = Overlay([_file(b"x/a"), _file(b"x/b/c")])
    overlay.apply([_file(b"x")])
    assert overlay.paths() == {b"x": Kind.FILE}
    assert len(overlay.of(Removed)) == 4
    overlay.apply([_dir(b"x"), _file(b"x/n")])
    assert overlay.paths() == {b"x": Kind.DIRECTORY, b"x/n": Kind.FILE}


def test_whiteout_removes_a_whole_directory_and_nothing_else() -> None:
    overlay = Overlay([_file(b"d/a/b"), _file(b"keep")], [_whiteout(b"d")])
    assert set(overlay.paths()) == {b"keep"}
    assert overlay.of(Listed) == [Listed(2)]


def test_whiteout_of_something_absent_changes_nothing() -> None:
    overlay = Overlay([_file(b"a")], [_whiteout(b"b"), _whiteout(b"no/such/folder")])
    assert overlay.changes == []


def test_markers_below_a_file_mark_nothing() -> None:
    lower = [_file(b"f"), _symlink(b"s", b"f")]
    overlay = Overlay(lower, [_whiteout(b"f/x"), _opaque(b"f"), _opaque(b"f/x/y"), _opaque(b"s")])
    assert overlay.changes == []
    with pytest.raises(IntegrityError, match="'f/x', which is missing"):
        overlay.apply([_hardlink(b"h", b"f/x")])


@pytest.mark.parametrize("order", [1, -1])
def test_whiteout_spares_this_layers_own_name_in_either_order(order: int) -> None:
    overlay = Overlay([_file(b"f")])
    old = overlay.node(b"f")
    overlay.apply([_whiteout(b"f"), _file(b"f")][::order])
    assert overlay.paths() == {b"f": Kind.FILE}
    assert overlay.node(b"f") != old


@pytest.mark.parametrize("order", [1, -1])
def test_directory_deleted_and_made_again_loses_only_its_old_content(order: int) -> None:
    overlay = Overlay([_file(b"d/old"), _file(b"d/sub/old")])
    overlay.apply([*[_whiteout(b"d"), _dir(b"d", 0o711)][::order], _file(b"d/new")])
    assert set(overlay.paths()) == {b"d", b"d/new"}


def test_whiteout_of_a_directory_with_new_files_leaves_an_implicit_parent() -> None:
    overlay = Overlay([_dir(b"d", 0o700), _file(b"d/old")])
    node = overlay.node(b"d")
    overlay.apply([_file(b"d/new"), _whiteout(b"d")])
    assert set(overlay.paths()) == {b"d", b"d/new"}
    assert overlay.of(Updated) == [Updated(node, Entry(b"", Kind.DIRECTORY))]


@pytest.mark.parametrize("marker", [_whiteout(b"d"), _opaque(b"d")])
@pytest.mark.parametrize("order", [1, -1])
def test_folders_that_a_marker_hides_are_implicit_parents_all_the_way_down(
    marker: Entry, order: int
) -> None:
    expected = ExpectedTree(lambda _: b"")
    expected.apply([_dir(b"d", 0o700), _dir(b"d/e", 0o700), _dir(b"d/e/f", 0o700)])
    expected.apply([marker, _file(b"d/e/f/new")][::order])
    modes = {path: expected.nodes[node].mode for path, node, _ in expected.tree.walk()}
    assert (modes[b"d/e"], modes[b"d/e/f"]) == (0o755, 0o755)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_opaque_marker_means_lower_layers_wherever_it_stands(position: int) -> None:
    overlay = Overlay([_file(b"d/old"), _file(b"d/sub/old"), _file(b"d/both/old")])
    layer = [_file(b"d/new"), _file(b"d/both/new")]
    layer.insert(position, _opaque(b"d"))
    overlay.apply(layer)
    assert set(overlay.paths()) == {b"d", b"d/new", b"d/both", b"d/both/new"}


def test_opaque_root() -> None:
    overlay = Overlay([_file(b"a"), _file(b"b/c")], [_opaque(b""), _file(b"d")])
    assert set(overlay.paths()) == {b"d"}


def test_hardlinks_count_names_across_layers() -> None:
    overlay = Overlay([_file(b"a"), _hardlink(b"b", b"a")])
    node = overlay.node(b"a")
    overlay.apply([_hardlink(b"c", b"b")])
    assert overlay.of(Relinked) == [Relinked(node, 3, b"c")]
    overlay.apply([_whiteout(b"a"), _whiteout(b"b")])
    assert overlay.of(Relinked) == [Relinked(node, 2), Relinked(node, 1)]
    assert overlay.node(b"c") == node
    overlay.apply([_whiteout(b"c")])
    assert overlay.of(Removed) == [Removed(node, Kind.FILE)]
    assert not overlay.tree.links


def test_hardlink_keeps_the_old_content_of_a_file_that_is_replaced_later() -> None:
    overlay = Overlay([_file(b"f")])
    old = overlay.node(b"f")
    overlay.apply([_hardlink(b"g", b"f"), _file(b"f")])
    assert overlay.node(b"g") == old
    assert overlay.node(b"f") != old
    assert overlay.of(Relinked) == [Relinked(old, 2, b"g"), Relinked(old, 1)]


def test_hardlink_to_itself_does_nothing() -> None:
    overlay = Overlay([_file(b"f")], [_hardlink(b"f", b"f")])
    assert overlay.changes == []


def test_hardlink_to_a_symlink_links_the_symlink() -> None:
    overlay = Overlay([_symlink(b"s", b"nowhere"), _hardlink(b"t", b"s")])
    assert overlay.node(b"s") == overlay.node(b"t")
    overlay.apply([_whiteout(b"s")])
    assert overlay.tree.symlinks == {overlay.node(b"t"): b"nowhere"}


@pytest.mark.parametrize("target", [b"missing", b"d", b"no/folder/f", b""])
def test_hardlinks_without_a_file_are_refused(target: bytes) -> None:
    with pytest.raises(IntegrityError, match="hard link"):
        Overlay([_dir(b"d"), _hardlink(b"h", target)])


@pytest.mark.parametrize("target", [b"d/f", b"d/e/g", b"s/f"])
def test_hardlinks_to_what_they_replace_are_refused(target: bytes) -> None:
    lower = [_file(b"d/f"), _file(b"d/e/g"), _symlink(b"s", b"d"), _hardlink(b"other", b"d/f")]
    for layers in ([[*lower, _hardlink(b"d", target)]], [lower, [_hardlink(b"d", target)]]):
        with pytest.raises(IntegrityError, match=r"member 'd': It is a hard link to .* is missing"):
            Overlay(*layers)


def test_hardlinks_through_a_symlink_that_they_replace_are_refused() -> None:
    with pytest.raises(IntegrityError, match="'s/f', which is missing"):
        Overlay([_file(b"d/f"), _symlink(b"s", b"d")], [_hardlink(b"s", b"s/f")])


def test_a_hardlink_may_replace_a_directory_that_its_file_is_not_in() -> None:
    overlay = Overlay([_file(b"d/f"), _file(b"e")], [_hardlink(b"d", b"e")])
    assert overlay.paths() == {b"d": Kind.FILE, b"e": Kind.FILE}
    assert overlay.node(b"d") == overlay.node(b"e")


def test_what_is_gone_is_gone_whichever_layer_it_is_from() -> None:
    overlay = Overlay([_file(b"d/old")])
    overlay.apply([_file(b"d/new"), _hardlink(b"kept", b"d/new"), Entry(b"d", Kind.GONE)])
    assert overlay.paths() == {b"kept": Kind.FILE}
    assert not overlay.tree.links
    overlay.apply([Entry(b"d", Kind.GONE), Entry(b"no/such", Kind.GONE)])
    assert overlay.changes == []


@pytest.mark.parametrize("target", [b"real/sub", b"/real/sub", b"../../real/sub", b"./real//sub/"])
def test_symlinks_in_the_way_are_followed_inside_the_root(target: bytes) -> None:
    overlay = Overlay([_dir(b"real/sub"), _symlink(b"s", target)], [_file(b"s/f")])
    assert b"real/sub/f" in overlay.paths()
    assert overlay.paths()[b"s"] is Kind.SYMLINK


def test_a_dangling_symlinks_target_is_made() -> None:
    overlay = Overlay([_symlink(b"s", b"made/here")], [_file(b"s/f")])
    assert overlay.paths()[b"made/here/f"] is Kind.FILE


def test_a_dangling_symlink_cannot_make_a_name_that_no_file_system_holds() -> None:
    made = Overlay([_symlink(b"s", b"n" * 255), _file(b"s/f")])
    assert made.paths()[b"n" * 255] is Kind.DIRECTORY
    with pytest.raises(IntegrityError, match=r"member 's/f': .* a name of 256 bytes"):
        Overlay([_symlink(b"s", b"a/" + b"n" * 256), _file(b"s/f")])


def test_a_symlink_where_nothing_was_changes_ways_that_came_back_from_there() -> None:
    overlay = Overlay(
        [_dir(b"a"), _dir(b"b"), _dir(b"a/c"), _symlink(b"l", b"no/../b"), _file(b"l/f")],
    )
    assert b"b/f" in overlay.paths()
    overlay.apply([_file(b"l/g"), _symlink(b"no", b"a/c"), _file(b"l/h")])
    assert {b"b/f", b"b/g", b"a/b/h"} < set(overlay.paths())


def test_replaced_symlink_is_no_longer_followed() -> None:
    overlay = Overlay([_dir(b"a"), _dir(b"b"), _symlink(b"s", b"a")])
    overlay.apply([_file(b"s/one"), _symlink(b"s", b"b"), _file(b"s/two")])
    assert {b"a/one", b"b/two"} <= set(overlay.paths())


def test_whiteout_follows_symlinked_parents_but_not_the_name() -> None:
    overlay = Overlay([_file(b"real/f"), _symlink(b"s", b"real"), _symlink(b"t", b"real")])
    overlay.apply([_whiteout(b"s/f"), _whiteout(b"t")])
    assert set(overlay.paths()) == {b"real", b"s"}


def test_symlink_loops_and_files_in_the_way_are_errors() -> None:
    with pytest.raises(IntegrityError, match="loop"):
        Overlay([_symlink(b"a", b"b"), _symlink(b"b", b"a"), _file(b"a/f")])
    with pytest.raises(IntegrityError, match="not a directory"):
        Overlay([_file(b"a"), _file(b"a/f")])
    with pytest.raises(IntegrityError, match="root"):
        Overlay([_file(b"")])


def test_nesting_deeper_than_pythons_recursion_can_be_made_and_pruned() -> None:
    deep = b"/".join([b"d"] * 5000)
    overlay = Overlay([_file(deep + b"/f")], [_opaque(b"d")])
    assert set(overlay.paths()) == {b"d"}
    overlay = Overlay([_file(deep + b"/f")], [_whiteout(b"d")])
    assert overlay.paths() == {}


def test_a_layer_has_a_bounded_number_of_steps_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MAX_LAYER_STEPS", 10_000)
    links = [_symlink(b"s0", b"./" * 1000 + b"d")]
    links += [_symlink(b"s%d" % number, b"s%d" % (number - 1)) for number in range(1, 4)]
    # Each replaced link makes the layer forget the ways that it knows.
    dear = [
        entry for number in range(20) for entry in (_symlink(b"x", b"y"), _file(b"s3/f%d" % number))
    ]
    lower = [_dir(b"d"), *links]
    for number in range(3):  # counted for each layer anew
        Overlay(lower, *[dear[:16]] * number)
    with pytest.raises(IntegrityError, match=r"member 's3/f\d+': .* more than 10000 steps in all"):
        Overlay(lower, dear)


def test_the_last_of_several_members_of_one_name_wins() -> None:
    overlay = Overlay([_file(b"f"), _symlink(b"f", b"x"), _file(b"f")])
    assert overlay.paths() == {b"f": Kind.FILE}
    assert [packed >> KIND_BITS for packed in overlay.tree.directories[2].values()] == [
        overlay.node(b"f")
    ]
