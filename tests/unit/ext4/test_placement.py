"""Names of large directories stay where they are, and the others go where little is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from converter.ext4 import c_ext4 as c
from converter.ext4.directory import pack_names
from converter.ext4.geometry import ALIGNMENT_BLOCKS
from converter.ext4.placement import Placement, free_bytes, update

FILE = 8 | 1  # inode 1, a regular file


def _names(numbers: range, length: int = 20) -> dict[bytes, int]:
    return {(b"%06d" % number).ljust(length, b"n"): FILE for number in numbers}


def _placed(names: dict[bytes, int]) -> Placement:
    return Placement.of(list(pack_names(names)))


def test_one_name_more_is_one_grain() -> None:
    before = _names(range(10_000))
    placement = _placed(before)
    old = dict(placement.where)
    after = {**before, b"new": FILE}
    grains = update(placement, before, after)
    assert grains is not None
    assert len(grains) == 1
    assert placement.where == {**old, b"new": placement.where[b"new"]}


def test_another_inode_under_a_name_changes_its_grain_only() -> None:
    before = _names(range(10_000))
    placement = _placed(before)
    name = sorted(before)[5_000]
    grains = update(placement, before, {**before, name: 16 | 1})
    assert grains == {placement.where[name] // ALIGNMENT_BLOCKS}


def test_names_fill_grains_with_room_before_new_ones() -> None:
    before = _names(range(10_000))
    placement = _placed(before)
    blocks = placement.blocks
    gone = dict.fromkeys(name for name, block in placement.where.items() if block // 16 == 1)
    fewer = {name: packed for name, packed in before.items() if name not in gone}
    assert update(placement, before, fewer) == {1}
    more = {**fewer, **_names(range(50_000, 50_000 + len(gone)))}
    assert update(placement, fewer, more) == {1}
    assert placement.blocks == blocks


def test_a_directory_that_nearly_all_leaves_is_written_anew() -> None:
    before = _names(range(10_000))
    placement = _placed(before)
    where = dict(placement.where)
    few = dict(list(before.items())[::100])
    assert update(placement, before, few) is None
    assert placement.where == where


CHANGES = st.lists(
    st.tuples(st.integers(0, 3999), st.integers(1, 60), st.sampled_from(["give", "take", "turn"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=4), st.integers(12, 255))
def test_every_change_is_in_a_grain_that_is_written(
    layers: list[list[tuple[int, int, str]]], length: int
) -> None:
    before = _names(range(0, 8000, 2), length)
    placement = _placed(before)
    for number, changes in enumerate(layers):
        after = dict(before)
        for first, count, what in changes:
            for name in _names(range(first, first + count), length):
                if what == "take":
                    after.pop(name, None)
                elif what == "turn" or name not in after:
                    after[name] = number + 2 << 3 | 1
        old = Placement(placement.blocks, dict(placement.where))
        grains = update(placement, before, after)
        if grains is None:
            assert placement == old
            placement = _placed(after)
        else:
            assert placement.where.keys() == after.keys()
            assert min(free_bytes(placement.where, placement.blocks)) >= 0
            assert placement.blocks % ALIGNMENT_BLOCKS == 0
            new = set(range(old.blocks // ALIGNMENT_BLOCKS, placement.blocks // ALIGNMENT_BLOCKS))
            assert new <= grains
            for name in before.keys() | after.keys():
                was, now = old.where.get(name), placement.where.get(name)
                if before.get(name) != after.get(name) or was != now:
                    assert {
                        block // ALIGNMENT_BLOCKS for block in (was, now) if block is not None
                    } <= grains
            assert all(
                was == placement.where[name] for name, was in old.where.items() if name in after
            )
        before = after


def test_a_block_holds_no_more_than_its_size() -> None:
    for length in (12, 13, 255):
        names = _names(range(3000), length)
        room = free_bytes(_placed(names).where, _placed(names).blocks)
        assert min(room) >= 0
        assert max(room) <= c.BLOCK_SIZE
