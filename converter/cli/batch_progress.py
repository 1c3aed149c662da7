"""How a batch goes, on stderr: bars on a terminal, a line for each image elsewhere.

Owns the words of both; the sums of a conversion alone are `converter.cli.progress`'s business.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

from converter.batch.events import (
    BatchEvent,
    BatchFinished,
    BatchPlanned,
    ImageFinished,
    ImageState,
    Said,
    TaskLost,
)
from converter.batch.report.documents import event_document
from converter.batch.report.history import BatchRecord
from converter.batch.report.shapes import count, duration
from converter.cli.batch_totals import BatchTotals
from converter.cli.output import Output
from converter.cli.progress import has_bars, say
from converter.cli.totals import Clock

_SIGN_SECONDS = 10.0  # between two signs of life in a log


class BatchRenderer(Protocol):
    """Shows a batch until it is closed. One thread at a time calls it."""

    def looked_up(self, count: int) -> None:
        """Show that so many images have been looked up."""

    def show(self, event: BatchEvent) -> None:
        """Render one event."""

    def close(self) -> None:
        """Leave the terminal as it was; nothing is shown after it."""


@contextmanager
def show_batch(output: Output) -> Iterator[BatchRenderer]:
    """Yield what shows a batch in the form that `output` was told, and close it in the end."""
    renderer = _make_renderer(output.progress_style)
    try:
        yield renderer
    finally:
        renderer.close()


def _make_renderer(style: str) -> BatchRenderer:
    if has_bars(style):
        from converter.cli.batch_bars import BatchBars  # noqa: PLC0415 - rich is slow to import

        return BatchBars(clock=time.monotonic)
    if style == "json":
        return _JsonBatch()
    if style == "none":
        return _SilentBatch()
    return PlainBatch(clock=time.monotonic)


def event_line(event: BatchEvent) -> str | None:
    """Return what stays of an event when the batch has gone on; None if nothing does."""
    if isinstance(event, ImageFinished):
        name = f"{event.reference} ({event.platform})"
        if event.state is ImageState.FAILED and event.failure is not None:
            next_step = f" Next: {event.failure.hint}" if event.failure.hint else ""
            return f"{name}: failed: {event.failure.what}{next_step}"
        if event.state is ImageState.SKIPPED:
            return None  # what ended the batch is told
        return f"{name}: {event.state.value}"
    if isinstance(event, Said):
        return f"Warning: {event.text}" if event.is_warning else event.text
    if isinstance(event, TaskLost):
        return f"Warning: {event.task.name}: its worker {event.reason}; it is begun anew"
    return None


def result_lines(record: BatchRecord) -> list[str]:
    """Return what came of a batch, for people."""
    total = record.total
    lines = [
        f"{end.reference}  {end.digest or '-'}  {end.platform}  {end.state.value}"
        for end in (image.end for image in record.images)
    ]
    counts = [
        f"{number:,} {word}"
        for number, word in (
            (total.done, "done"),
            (total.unchanged, "unchanged"),
            (total.failed, "failed"),
            (total.skipped, "not begun or not finished"),
        )
        if number
    ]
    amounts = [f"{total.links_made} links made"]
    if total.links_cached:
        amounts.append(f"{total.links_cached} links from the cache")
    amounts.append(f"{total.fetched_bytes / 1e6:.1f} MB fetched")
    if total.sent_bytes:
        amounts.append(f"{total.sent_bytes / 1e6:.1f} MB sent")
    amounts.append(f"{record.plan.figures.shared_bytes / 1e6:.1f} MB shared")
    lines.append(
        f"{count(len(record.images), 'image')}: {', '.join(counts)}; {', '.join(amounts)}, in "
        f"{duration(total.at_seconds)}"
    )
    return lines


class PlainBatch:
    """One line for each image that has ended, and a sign of life now and then."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._totals = BatchTotals(clock)
        self._last_sign = clock()

    def looked_up(self, count: int) -> None:
        """Give a sign of life where there are many."""
        self._sign(f"{count} images looked up")

    def show(self, event: BatchEvent) -> None:
        """Say what is worth a line."""
        self._totals.take(event)
        if isinstance(event, BatchPlanned):
            figures = event.plan.figures
            say(
                f"{count(figures.images, 'image')}: {count(figures.fetch_blobs, 'blob')} "
                f"({figures.fetch_bytes / 1e6:.1f} MB) to fetch, {figures.convert_links} of "
                f"{figures.links} links to make, {event.workers} at a time"
            )
        line = event_line(event)
        if line is None:
            if not isinstance(event, BatchFinished):
                self._sign(self._totals.line())
            return
        if isinstance(event, ImageFinished):
            line = f"[{self._totals.ended}/{self._totals.images}] {line}"
        self._last_sign = self._clock()
        say(line)

    def close(self) -> None:
        """There is nothing to take back."""

    def _sign(self, line: str) -> None:
        if self._clock() - self._last_sign >= _SIGN_SECONDS:
            self._last_sign = self._clock()
            say(line)


class _JsonBatch:
    """One JSON object for each event, on a line of its own. (docs/progress.md)"""

    def looked_up(self, count: int) -> None:
        pass

    def show(self, event: BatchEvent) -> None:
        click.echo(json.dumps(event_document(event)), err=True)

    def close(self) -> None:
        pass


class _SilentBatch:
    """Says nothing but warnings, and what failed."""

    def looked_up(self, count: int) -> None:
        pass

    def show(self, event: BatchEvent) -> None:
        is_warning = isinstance(event, Said) and event.is_warning
        is_failure = isinstance(event, ImageFinished) and event.failure is not None
        line = event_line(event)
        if line is not None and (is_warning or is_failure):
            say(line)

    def close(self) -> None:
        pass
