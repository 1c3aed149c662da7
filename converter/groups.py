"""Which layers share a link: a chain has a bounded number of links, an image may have more layers.

vSphere follows at most 32 disks. The borders between groups are fixed layer indexes that depend on
nothing but the bound, so images that begin with the same layers share every closed group, and
adding a layer changes the last, open group only. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from converter.errors import UsageError

MAX_LAYERS = 127  # what overlayfs-based engines take, so no image has more
MAX_LINKS = 31  # vSphere's 32, less the machine's own scratch disk
DEFAULT_MAX_LINKS = 24

_Layer = TypeVar("_Layer")


def group_borders(max_links: int) -> tuple[int, ...]:
    """Return after which layer each of `max_links` links ends; the last is MAX_LAYERS.

    The first half has one layer each: that is where images share most, and most images end there.
    From then on groups grow with the square of their number. Raises UsageError for a bound outside
    1 to MAX_LINKS.
    """
    if not 1 <= max_links <= MAX_LINKS:
        raise UsageError(
            f"A chain of at most {max_links} links is not possible.",
            expected=f"--max-links from 1 to {MAX_LINKS}",
        )
    single = max_links // 2
    groups = max_links - single
    borders = list(range(1, single + 1))
    for number in range(1, groups + 1):
        border = single + (MAX_LAYERS - single) * number * number // (groups * groups)
        borders.append(max(border, len(borders) + 1))
    return tuple(borders)


def group_layers(layers: Sequence[_Layer], max_links: int) -> list[tuple[_Layer, ...]]:
    """Cut an image's layers, base first, into the groups that share a link.

    Raises UsageError for more than MAX_LAYERS layers, or an impossible bound.
    """
    if len(layers) > MAX_LAYERS:
        raise UsageError(
            f"The image has {len(layers)} layers.",
            expected=f"at most {MAX_LAYERS}",
            hint="Squash some of its layers when building it.",
        )
    groups = []
    start = 0
    for border in group_borders(max_links):
        group = tuple(layers[start:border])
        if not group:
            break
        groups.append(group)
        start = border
    return groups
