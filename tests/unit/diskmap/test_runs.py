"""Lists of runs, held against sets of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.diskmap.runs import Runs, common, joined, length, length_within, without

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)
PLACE = st.integers(0, 42)


def numbers(runs: Runs) -> set[int]:
    return {number for begin, end in runs for number in range(begin, end)}


def well_formed(runs: Runs) -> bool:
    edges = [edge for run in runs for edge in run]
    return edges == sorted(set(edges))


@given(RANGES, RANGES)
def test_they_are_what_sets_are(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = joined(one), joined(other)
    assert numbers(a) == numbers(tuple(one))
    assert numbers(common(a, b)) == numbers(a) & numbers(b)
    assert numbers(without(a, b)) == numbers(a) - numbers(b)
    assert all(map(well_formed, (a, common(a, b), without(a, b))))
    assert length(a) == len(numbers(a))


@given(RANGES, PLACE, PLACE)
def test_a_part_is_measured(ranges: list[tuple[int, int]], begin: int, end: int) -> None:
    runs = joined(ranges)
    assert length_within(runs, begin, end) == len(numbers(runs) & set(range(begin, end)))
