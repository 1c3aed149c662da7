"""Ranges of a disk as values, and what two lists of them have in common. Pure.

A list of runs is in order, its runs have (begin, end) with begin < end and do not touch each other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Run = tuple[int, int]
Runs = tuple[Run, ...]


def joined(runs: Iterable[Run]) -> Runs:
    """Return any ranges (begin, end) as a list of runs; they may overlap and be in any order."""
    found: list[Run] = []
    for begin, end in sorted(runs):
        if begin >= end:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return tuple(found)


def common(one: Runs, other: Runs) -> Runs:
    """Return what is in both."""
    return tuple(_common(one, other))


def without(one: Runs, other: Runs) -> Runs:
    """Return what is in `one` and not in `other`."""
    found: list[Run] = []
    at = 0
    for begin, end in one:
        left = begin  # of the run, what is not decided yet
        while at < len(other) and other[at][1] <= left:
            at += 1
        here = at
        while here < len(other) and other[here][0] < end:
            if left < other[here][0]:
                found.append((left, other[here][0]))
            left = other[here][1]
            here += 1
        if left < end:
            found.append((left, end))
    return tuple(found)


def length(runs: Runs) -> int:
    """Return how much all runs have together."""
    return sum(end - begin for begin, end in runs)


def length_within(runs: Runs, begin: int, end: int) -> int:
    """Return how much of `runs` lies in [begin, end), without looking at the rest."""
    at = max(bisect_right(runs, (begin, begin)) - 1, 0)
    total = 0
    while at < len(runs) and runs[at][0] < end:
        total += max(min(runs[at][1], end) - max(runs[at][0], begin), 0)
        at += 1
    return total


def _common(one: Runs, other: Runs) -> Iterator[Run]:
    at = here = 0
    while at < len(one) and here < len(other):
        begin = max(one[at][0], other[here][0])
        end = min(one[at][1], other[here][1])
        if begin < end:
            yield begin, end
        if one[at][1] < other[here][1]:
            at += 1
        else:
            here += 1
