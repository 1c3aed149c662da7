"""The axis: all of the disk, in order, and nothing of it twice."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from converter.diskmap.axis import amounts, stretches, ticks
from converter.diskmap.runs import joined, length

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10
BLOCK = 4096
HELD = st.lists(
    st.tuples(st.integers(0, 1 << 28), st.integers(1, 1 << 20), st.integers(0, 20)), max_size=30
)


@given(HELD)
def test_the_whole_disk_stands_on_it_once(drawn: list[tuple[int, int, int]]) -> None:
    capacity = (1 << 28) * BLOCK
    # At all scales: shifted, places crowd at the disk's beginning.
    ranges = [(at >> shift, (at >> shift) + count) for at, count, shift in drawn]
    held = joined((begin * BLOCK, min(end * BLOCK, capacity)) for begin, end in ranges)
    parts = stretches(held, capacity, left=32, width=1056)
    assert (parts[0].begin, parts[-1].end) == (0, capacity)
    assert (parts[0].left, parts[-1].right) == (32, 32 + 1056)
    for one, following in pairwise(parts):
        assert (one.end, one.right) == (following.begin, following.left)
    assert all(part.begin < part.end and part.left < part.right for part in parts)
    # Columns lose nothing of what is held.
    assert sum(map(sum, (amounts(part, held) for part in parts))) == length(held)


def test_nothing_becomes_narrow() -> None:
    """What a converted image looks like: hot grains, inode tables, data, backup superblocks."""
    held = joined(
        [
            (0, MIB),
            (65 * MIB, 70 * MIB),
            (584 * MIB, 700 * MIB),
            *((at * MIB, at * MIB + 64 * KIB) for at in (128, 384, 896, 3200, 16000)),
        ]
    )
    parts = stretches(held, 16 * GIB, left=0, width=1000)
    assert [(part.begin // MIB, part.end // MIB) for part in parts if not part.is_strip] == [
        (0, 1),
        (65, 70),
        (584, 700),
    ]
    data = next(part for part in parts if part.begin == 584 * MIB)
    assert data.right - data.left > 700
    assert ticks(data, apart=80) == [at * MIB for at in range(592, 700, 16)]


def test_an_empty_disk_and_a_full_one_have_one_scale() -> None:
    for held in ((), ((0, GIB),)):
        (part,) = stretches(held, GIB, left=0, width=1000)
        assert not part.is_strip
        assert part.place(GIB // 2) == 500
