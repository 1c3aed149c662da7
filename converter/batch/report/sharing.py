"""Which images share which links: rows are images, columns the links of their chains, base first.

A box is one link, as high as the images that stand on it. Of more images than there are rows, those
on the same links share the rows that they have by their number, and of what has none one row tells:
what is drawn is bounded, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from converter.batch.plan import Whereabouts
from converter.batch.report.history import BatchRecord
from converter.batch.report.shapes import (
    LEFT,
    MONO,
    RIGHT,
    Picture,
    box,
    chain_class,
    count,
    text,
)
from converter.drawing.text import fitted, shown, size_text

MOST_ROWS = 120
_WAYS = 3
_ROW = 15
_CHAINS = 560  # width of all columns together
_WIDEST = 140
_FIRST_ROW = 62
_LABEL_WIDTH = 58
_LABEL_HEIGHT = 14
_GAP = 1


@dataclass(frozen=True, slots=True)
class _Row:
    """One image, or several that are folded: then `links` are those that all of them have."""

    links: tuple[str, ...]
    label: str
    folded: bool = False


def draw_sharing(record: BatchRecord) -> Picture:
    """Return the chains as a picture."""
    rows = _rows(record)
    deepest = max((len(row.links) for row in rows), default=1) or 1
    column = min(_CHAINS // deepest, _WIDEST)
    lowest = dict.fromkeys(row.links[0] for row in rows if row.links)
    bases = {key: number for number, key in enumerate(lowest)}
    height = _FIRST_ROW + _ROW * len(rows) + 10
    lines = list(_head(record))
    for depth in range(deepest):
        lines += _boxes(record, rows, bases, depth, column)
    x = LEFT + deepest * column + 10
    columns = int((RIGHT - x) / MONO)
    for number, row in enumerate(rows):
        y = _FIRST_ROW + number * _ROW + 11
        class_ = "mono dim" if row.folded else "mono ink"
        label = fitted(row.label, columns, keep_end=True)
        lines.append(text(x, y, class_, label, title=row.label if label != row.label else ""))
    return Picture("Which images share which links", height, lines)


def _head(record: BatchRecord) -> Iterator[str]:
    figures = record.plan.figures
    shared = sum(1 for number in record.users.values() if number > 1)
    yield text(LEFT, 22, "name ink", "Which images share which links")
    yield text(
        LEFT,
        42,
        "dim",
        f"{count(figures.images, 'image')} of {count(figures.links, 'link')}, {shared:,} of them "
        f"shared; {size_text(figures.shared_bytes)} of layers handled once and not again. "
        "Pale: was there before.",
    )


def _rows(record: BatchRecord) -> list[_Row]:
    return list(_fold(record, _order(record), 0, MOST_ROWS))


def _fold(record: BatchRecord, numbers: Sequence[int], depth: int, room: int) -> Iterator[_Row]:
    """Yield at most `room` rows for images that have `depth` links in common, in order.

    Those that go on alike share rows by their number. A third of the room at most goes to different
    ways on, or each of many would have one row, and nothing could be seen of any.
    """
    if len(numbers) <= room:
        for number in numbers:
            planned = record.images[number].planned
            yield _Row(planned.links, shown(planned.reference))
        return
    groups = [list(group) for _, group in groupby(numbers, lambda at: _link(record, at, depth))]
    if len(groups) == 1 and depth < len(record.images[numbers[0]].planned.links):
        yield from _fold(record, numbers, depth + 1, room)
        return
    if len(groups) == 1:  # the same image under many names
        yield from _fold(record, numbers[: room - 1], depth, room - 1)
        rest = numbers[room - 1 :]
        words = count(len(rest), "more image" if room > 1 else "image")
        yield _Row(_common(record, rest), words, folded=True)
        return
    kept = groups[: room // _WAYS]
    left = [number for group in groups[len(kept) :] for number in group]
    spare, total = room - len(kept) - bool(left), sum(map(len, kept))
    for group in kept:
        yield from _fold(record, group, depth + 1, 1 + spare * len(group) // total)
    if left:
        words = count(len(left), "more image" if kept else "image")
        if len(groups) > len(kept) and not depth:
            words += f" on {count(len(groups) - len(kept), 'base')}"
        yield _Row(_common(record, left), words, folded=True)


def _link(record: BatchRecord, number: int, depth: int) -> str:
    links = record.images[number].planned.links
    return links[depth] if depth < len(links) else ""


def _order(record: BatchRecord) -> list[int]:
    """Return the images so that those with a common beginning are neighbours, larger groups first.

    Of two links on the same one no two have the same rank, since each has a first image of its own.
    """
    first: dict[str, int] = {}
    for number, image in enumerate(record.images):
        for key in image.planned.links:
            first.setdefault(key, number)
    return sorted(
        range(len(record.images)),
        key=lambda number: [
            (-record.users[key], first[key]) for key in record.images[number].planned.links
        ],
    )


def _common(record: BatchRecord, numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the links that all these images, which are neighbours in the order, begin with."""
    one, other = record.images[numbers[0]].planned.links, record.images[numbers[-1]].planned.links
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]


def _boxes(
    record: BatchRecord, rows: Sequence[_Row], bases: dict[str, int], depth: int, column: int
) -> Iterator[str]:
    """Draw the links that have `depth` links below them."""
    at = 0
    while at < len(rows):
        links = rows[at].links
        begin = at
        at += 1
        if depth >= len(links):
            continue
        while at < len(rows) and rows[at].links[: depth + 1] == links[: depth + 1]:
            at += 1
        key = links[depth]
        x, y = LEFT + depth * column, _FIRST_ROW + begin * _ROW
        width, height = column - _GAP, (at - begin) * _ROW - _GAP
        users, size = record.users[key], _blob_bytes(record, key)
        here = record.plan.links[key].where is Whereabouts.STORE
        class_ = chain_class(bases[links[0]]) + (" replaced" if here else "")
        made = "was there before" if here else "new" if key in record.made else "not made"
        title = f"link {depth + 1}: {size_text(size)} of layers, {count(users, 'image')}, {made}"
        yield box(class_, x, y, width, height, title=title)
        if users > 1 and width >= _LABEL_WIDTH and height >= _LABEL_HEIGHT:
            ink = "small ink" if here else "light"
            yield text(x + 5, y + min(height / 2, 40) + 4, ink, count(users, "image"))


def _blob_bytes(record: BatchRecord, key: str) -> int:
    return sum(record.plan.blobs[blob].size_bytes for blob in record.plan.links[key].blobs)
