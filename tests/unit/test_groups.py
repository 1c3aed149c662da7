"""The table of borders, which must never change: links already made depend on it."""

from __future__ import annotations

import itertools

import pytest

from converter.errors import UsageError
from converter.groups import MAX_LAYERS, MAX_LINKS, group_borders, group_layers


def test_the_default_table_is_the_documented_one() -> None:
    singles = tuple(range(1, 13))
    assert group_borders(24) == (*singles, 13, 15, 19, 24, 31, 40, 51, 63, 76, 91, 108, 127)


@pytest.mark.parametrize("max_links", range(1, MAX_LINKS + 1))
def test_borders_ascend_and_cover_every_image(max_links: int) -> None:
    borders = group_borders(max_links)
    assert len(borders) == max_links
    assert borders[-1] == MAX_LAYERS
    assert all(low < high for low, high in itertools.pairwise((0, *borders)))


@pytest.mark.parametrize("max_links", [1, 2, 7, 24, 31])
def test_images_share_every_closed_group_of_a_common_prefix(max_links: int) -> None:
    borders = group_borders(max_links)
    for count in range(1, MAX_LAYERS):
        short = group_layers(range(count), max_links)
        long = group_layers(range(count + 1), max_links)
        assert list(itertools.chain(*short)) == list(range(count))
        closed = sum(border <= count for border in borders)
        assert short[:closed] == long[:closed]
        assert len(long) <= max_links


def test_impossible_requests_are_refused() -> None:
    assert group_layers([], 24) == []
    for bound in (0, MAX_LINKS + 1):
        with pytest.raises(UsageError, match="links"):
            group_borders(bound)
    with pytest.raises(UsageError, match="128 layers"):
        group_layers(range(128), 24)
