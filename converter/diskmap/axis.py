"""From places on a disk to places on paper. Owns where the axis is broken; pure arithmetic.

A disk of 16 GiB that holds 100 MiB would be a blank page. So stretches with next to nothing in them
get a narrow strip each, and all others share the rest of the width at one scale. Nothing is left
out: a strip shows what is in it, and the axis says how much it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from converter.diskmap.runs import Run, Runs, length_within

COLUMN = 2  # width of a column of the picture; less would be more bytes than anybody can see
_STRIP = 46  # width of a strip: its label has to fit
_STRIPS = 10 * _STRIP  # of all strips together; more of them are narrower
_LONG_GAP = 24  # a gap longer than 1/24 of what is drawn to scale becomes a strip
_SMALL_ISLAND = 250  # what is less than 1/250 between two strips is no stretch of its own
_MIN_STRETCH = COLUMN


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [begin, end) of the disk, drawn from `left` to `right`; a strip is not to scale."""

    begin: int
    end: int
    left: int
    right: int
    is_strip: bool

    def columns(self) -> Iterator[tuple[int, int, int]]:
        """Yield (left edge, begin, end) for each column."""
        size, count = self.end - self.begin, (self.right - self.left) // COLUMN
        for number in range(count):
            yield (
                self.left + number * COLUMN,
                self.begin + size * number // count,
                self.begin + size * (number + 1) // count,
            )

    def place(self, offset: int) -> float:
        """Return where the byte at `offset` stands."""
        share = (offset - self.begin) / (self.end - self.begin)
        return self.left + share * (self.right - self.left)


def stretches(held: Runs, capacity_bytes: int, *, left: int, width: int) -> tuple[Stretch, ...]:
    """Divide a disk that holds `held` among `width` units from `left` on, both even."""
    pieces = _pieces(held, capacity_bytes)
    strips = sum(is_strip for _, _, is_strip in pieces)
    strip = max(min(_STRIP, _STRIPS // max(strips, 1)) // COLUMN, 1) * COLUMN
    room = width - strips * strip
    scaled = sum(end - begin for begin, end, is_strip in pieces if not is_strip)
    widths = [
        strip if is_strip else max((end - begin) * room // scaled // COLUMN * COLUMN, _MIN_STRETCH)
        for begin, end, is_strip in pieces
    ]
    widths[_widest(pieces)] += width - sum(widths)  # what rounding left or took
    found = []
    for (begin, end, is_strip), own in zip(pieces, widths, strict=True):
        found.append(Stretch(begin, end, left, left + own, is_strip))
        left += own
    return tuple(found)


def _pieces(held: Runs, capacity: int) -> list[tuple[int, int, bool]]:
    """Return (begin, end, is it a strip) for the whole disk, in order."""
    gaps = _long_gaps(held, capacity)
    scaled = capacity - sum(end - begin for begin, end in gaps)
    strips: list[Run] = []
    for begin, end in gaps:
        before = strips[-1][1] if strips else 0
        if strips and begin - before < scaled // _SMALL_ISLAND:
            strips[-1] = (strips[-1][0], end)
        elif not strips and 0 < begin < scaled // _SMALL_ISLAND:
            strips.append((0, end))
        else:
            strips.append((begin, end))
    found: list[tuple[int, int, bool]] = []
    at = 0
    for begin, end in strips:
        if at < begin:
            found.append((at, begin, False))
        found.append((begin, end, True))
        at = end
    if at < capacity:
        found.append((at, capacity, False))
    return found


def _long_gaps(held: Runs, capacity: int) -> list[Run]:
    """Return the gaps between what is held that would take much of the width, in order."""
    edges = [0, *(place for run in held for place in run), capacity]
    gaps = [(edges[at], edges[at + 1]) for at in range(0, len(edges), 2)]
    gaps.sort(key=lambda gap: (gap[0] - gap[1], gap[0]))
    drawn, taken = capacity, 0
    for begin, end in gaps:
        if (end - begin) * _LONG_GAP <= drawn or end - begin == drawn:
            break
        drawn -= end - begin
        taken += 1
    return sorted(gaps[:taken])


def _widest(pieces: list[tuple[int, int, bool]]) -> int:
    sizes = [0 if is_strip else end - begin for begin, end, is_strip in pieces]
    return sizes.index(max(sizes))


def amounts(stretch: Stretch, runs: Runs) -> list[int]:
    """Return how many bytes of `runs` lie in each column of `stretch`."""
    return [length_within(runs, begin, end) for _, begin, end in stretch.columns()]


def ticks(stretch: Stretch, *, apart: int) -> list[int]:
    """Return round offsets in a stretch that stand at least `apart` from each other."""
    size, width = stretch.end - stretch.begin, stretch.right - stretch.left
    step = 1 << 20
    while step * width < apart * size:
        step *= 2
    first = -(-stretch.begin // step) * step
    return list(range(first, stretch.end, step))
