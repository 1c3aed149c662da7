"""A batch on a terminal: a bar for each task under way, and one for all of them.

Tasks that wait have none, so the bars fit on any screen; an image that has ended stays above them
as a line.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import TextColumn

from converter.batch.events import (
    BatchEvent,
    BatchPlanned,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.plan import TaskKind
from converter.cli.bar_screen import BarScreen, bar_column, column
from converter.cli.batch_progress import event_line
from converter.cli.batch_totals import BatchTotals
from converter.cli.progress import duration
from converter.cli.totals import Clock

_UNITS = 1000  # of every bar: what is counted differs
_WIDEST_BAR = 30
_TEXT_COLUMNS = 56  # what stands beside a bar, at most
_NAME_COLUMNS = 40
_DOING = {
    TaskKind.FETCH: "fetching",
    TaskKind.CONVERT: "converting",
    TaskKind.RECORD: "recording",
    TaskKind.BUNDLE: "bundling",
    TaskKind.EXPORT: "exporting",
    TaskKind.PUSH: "pushing",
    TaskKind.IMPORT: "importing",
}


class BatchBars(BarScreen):
    """Shows a batch's events as bars on `console`, which is a terminal; else on stderr."""

    def __init__(self, *, clock: Clock, console: Console | None = None) -> None:
        self._totals = BatchTotals(clock)
        console = console or Console(stderr=True)
        super().__init__(
            TextColumn("{task.fields[state]}", style="cyan", table_column=column()),
            *bar_column(console, widest=_WIDEST_BAR, beside=_TEXT_COLUMNS),
            TextColumn("{task.description}", markup=False, table_column=column(_NAME_COLUMNS)),
            TextColumn("{task.fields[left]}", style="cyan", table_column=column()),
            console=console,
        )
        self._all = self._progress.add_task("looking up", total=None, state="in all", left="")
        self._open()

    def looked_up(self, count: int) -> None:
        """Show how many images have been looked up."""
        self._progress.update(self._all, description=f"{count} images looked up")

    def show(self, event: BatchEvent) -> None:
        """Move the bars, or print what stays."""
        self._totals.take(event)
        if isinstance(event, BatchPlanned):
            self._progress.update(self._all, total=_UNITS)
        elif isinstance(event, TaskStarted):
            task = event.task
            self._begin(task.id, task.name, total=_UNITS, state=_DOING[task.kind])
        elif isinstance(event, TaskAdvanced):
            if event.total_bytes:
                self._advance(event.task.id, _UNITS * event.done_bytes / event.total_bytes)
        elif isinstance(event, TaskFinished | TaskLost):
            self._end(event.task.id)
        line = event_line(event)
        if line is not None:
            self._print(line)
        self._show_all()

    def _show_all(self) -> None:
        totals = self._totals
        left = totals.remaining_seconds()
        failed = f", {totals.failed} failed" if totals.failed else ""
        self._progress.update(
            self._all,
            description=f"{totals.ended} of {totals.images} images{failed}",
            completed=totals.share * _UNITS,
            left="" if left is None else f"{duration(left)} left",
        )
