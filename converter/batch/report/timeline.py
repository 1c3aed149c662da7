"""Who worked on what when: a lane for each worker. Owns the layout; same record, same bytes.

A few tasks are a shape each, which says more to who points at it. Of many, shapes would be narrower
than can be seen, and their number is bounded: then each lane has one path for each kind of task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converter.batch.plan import TaskKind
from converter.batch.report.history import BatchRecord, Span, SpanEnd
from converter.batch.report.shapes import (
    FAILED,
    KINDS,
    LEFT,
    LOST,
    MONO,
    RIGHT,
    Picture,
    box,
    count,
    duration,
    text,
)
from converter.drawing.text import fitted, shown

MOST_LANES = 64
MOST_SHAPES = 1500
_MOST_ROWS = 4  # of tasks that a worker has at the same time
_NAMES = 130  # width of what stands before the lanes
_SHARES = 66  # and behind them
_AXIS = 64
_FIRST_LANE = 74
_ROW = 12
_LANE_GAP = 8
_TICKS_APART = 76
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_LEGEND_CHARACTER = 6.4


def draw_timeline(record: BatchRecord) -> Picture:
    """Return the lanes as a picture."""
    lanes = _lanes(record.spans)
    shown_lanes = _busiest(lanes)
    whole = max([record.total.at_seconds, *(span.ended_seconds for span in record.spans)])
    scale = (RIGHT - LEFT - _NAMES - _SHARES) / (whole or 1.0)
    heights = [len(rows) * _ROW + _LANE_GAP for _, rows in shown_lanes]
    height = _FIRST_LANE + sum(heights) + (26 if len(lanes) > len(shown_lanes) else 6)
    lines = [*_legend(record.spans), *_axis(whole, scale, height)]
    merged = len(record.spans) > MOST_SHAPES
    y = _FIRST_LANE
    for (worker, rows), own in zip(shown_lanes, heights, strict=True):
        lines += _lane(worker, rows, y, scale=scale, whole=whole, merged=merged)
        y += own
    if len(lanes) > len(shown_lanes):
        more = count(len(lanes) - len(shown_lanes), "more worker")
        lines.append(text(LEFT, y + 12, "dim", f"and {more}, with less to do than these"))
    return Picture("When each worker did what", height, lines)


_Rows = list[list[Span]]


def _lanes(spans: Sequence[Span]) -> list[tuple[str, _Rows]]:
    """Return each worker's tasks, in rows whose tasks follow one another."""
    workers: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.begun_seconds, span.ended_seconds)):
        workers.setdefault(span.worker, []).append(span)
    return [(worker, _rows(workers[worker])) for worker in sorted(workers, key=_natural)]


def _rows(spans: list[Span]) -> _Rows:
    rows: _Rows = []
    for span in spans:
        for row in rows:
            if row[-1].ended_seconds <= span.begun_seconds:
                row.append(span)
                break
        else:
            if len(rows) < _MOST_ROWS:
                rows.append([span])
            else:
                rows[-1].append(span)
    return rows


def _busiest(lanes: list[tuple[str, _Rows]]) -> list[tuple[str, _Rows]]:
    """Return as many lanes as are drawn, those with the most work, in their own order."""
    order = sorted(range(len(lanes)), key=lambda at: (-_worked(lanes[at][1]), at))
    return [lanes[at] for at in sorted(order[:MOST_LANES])]


def _worked(rows: _Rows) -> float:
    return sum(span.seconds for row in rows for span in row)


def _natural(name: str) -> tuple[str, int, str]:
    """Return what puts worker 2 before worker 10."""
    head = name.rstrip("0123456789")
    # Of a name that is one long number, only so much decides.
    return head, int(name[len(head) :][:18] or 0), name


def _legend(spans: Sequence[Span]) -> Iterator[str]:
    yield text(LEFT, 22, "name ink", "When each worker did what")
    x = float(LEFT)
    for class_, words in _legend_words(spans):
        yield box(class_, x, 30, 12, 12)
        yield text(x + 18, 40, "dim", words)
        x += 36 + _LEGEND_CHARACTER * len(words)


def _legend_words(spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    for kind in TaskKind:
        seconds = [span.seconds for span in spans if span.task.kind is kind]
        if seconds:
            yield KINDS[kind], f"{kind.value}: {len(seconds):,} in {duration(sum(seconds))}"
    for end, class_ in ((SpanEnd.FAILED, FAILED), (SpanEnd.LOST, LOST)):
        number = sum(span.end is end for span in spans)
        if number:
            yield class_, f"{end.value}: {number:,}"


def _axis(whole: float, scale: float, height: int) -> Iterator[str]:
    step = next((step for step in _STEPS if step * scale >= _TICKS_APART), None)
    if step is None:
        step = _STEPS[-1] * -(-int(_TICKS_APART / scale) // _STEPS[-1])
    rules = []
    at = 0
    while at <= whole:
        x = LEFT + _NAMES + at * scale
        rules.append(f"M{x:.1f} {_AXIS + 3}V{height - 4}")
        yield text(round(x, 1), _AXIS - 3, "small dim middle", duration(at) if at else "0")
        at += step
    yield f'<path class="rule" d="{"".join(rules)}"/>'


def _lane(
    worker: str, rows: _Rows, y: int, *, scale: float, whole: float, merged: bool
) -> Iterator[str]:
    name = fitted(shown(worker), int((_NAMES - 10) / MONO), keep_end=True)
    yield text(LEFT, y + 10, "mono ink", name, title=shown(worker))
    left = LEFT + _NAMES
    for number in range(len(rows)):
        yield box("track", left, y + number * _ROW, whole * scale, _ROW - 1)
    if merged:
        yield from _paths(rows, y, left, scale)
    else:
        for number, row in enumerate(rows):
            for span in row:
                x, width = left + span.begun_seconds * scale, max(span.seconds * scale, 0.5)
                title = f"{shown(span.task.name)}: {span.task.kind.value}, {duration(span.seconds)}"
                if span.end is not SpanEnd.DONE:
                    title += f", {span.end.value}"
                yield box(_class(span), x, y + number * _ROW, width, _ROW - 1, title=title)
    share = _busy(rows) / whole if whole else 0.0
    yield text(RIGHT, y + 10, "small dim end", f"{share:.0%} busy")


def _paths(rows: _Rows, y: int, left: float, scale: float) -> Iterator[str]:
    """Draw a lane's rows in whole columns, which what came first has, and what went wrong."""
    for number, row in enumerate(rows):
        columns: dict[int, str] = {}
        drawn = 0  # columns below are no news
        for span in row:
            first, last = int(span.begun_seconds * scale), int(span.ended_seconds * scale)
            if span.end is SpanEnd.DONE:
                first = max(first, drawn)
            columns.update(dict.fromkeys(range(first, last + 1), _class(span)))
            drawn = max(drawn, last + 1)
        top = y + number * _ROW
        paths: dict[str, list[str]] = {}
        ordered = sorted(columns)
        at = 0
        while at < len(ordered):
            begin, class_ = ordered[at], columns[ordered[at]]
            end = begin + 1
            at += 1
            while at < len(ordered) and ordered[at] == end and columns[end] == class_:
                end += 1
                at += 1
            paths.setdefault(class_, []).append(
                f"M{left + begin} {top}h{end - begin}v{_ROW - 1}h-{end - begin}z"
            )
        for class_, path in paths.items():
            yield f'<path class="{class_}" d="{"".join(path)}"/>'


def _class(span: Span) -> str:
    if span.end is SpanEnd.FAILED:
        return FAILED
    return LOST if span.end is SpanEnd.LOST else KINDS[span.task.kind]


def _busy(rows: _Rows) -> float:
    """Return how long a worker had any task at all."""
    total, reached = 0.0, 0.0
    for span in sorted((span for row in rows for span in row), key=lambda span: span.begun_seconds):
        begin = max(span.begun_seconds, reached)
        if span.ended_seconds > begin:
            total += span.ended_seconds - begin
            reached = span.ended_seconds
    return total
