"""A batch on a terminal: a bar for each task under way, and one for all of them.

Tasks that wait have none, so the bars fit on any screen; an image that has ended stays above them
as a line.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from converter.batch.events import (
    BatchEvent,
    BatchPlanned,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.plan import TaskKind
from converter.cli.bars import column
from converter.cli.batch_progress import event_line
from converter.cli.batch_totals import BatchTotals
from converter.cli.progress import duration
from converter.cli.totals import Clock

_UNITS = 1000  # of every bar: what is counted differs
_WIDEST_BAR = 30
_NARROWEST_BAR = 8  # on a terminal with less room for it there is none
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


class BatchBars:
    """Shows a batch's events as bars on `console`, which is a terminal; else on stderr."""

    def __init__(self, *, clock: Clock, console: Console | None = None) -> None:
        self._totals = BatchTotals(clock)
        self._console = console or Console(stderr=True)
        self._tasks: dict[str, TaskID] = {}
        room = min(_WIDEST_BAR, self._console.width - _TEXT_COLUMNS)
        self._progress = Progress(
            TextColumn("{task.fields[state]}", style="cyan", table_column=column()),
            *([BarColumn(room)] if room >= _NARROWEST_BAR else []),
            TextColumn("{task.description}", markup=False, table_column=column(_NAME_COLUMNS)),
            TextColumn("{task.fields[left]}", style="cyan", table_column=column()),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # results come after progress has ended
        )
        self._all = self._progress.add_task("looking up", total=None, state="in all", left="")
        self._progress.start()
        # Kept in sight: then there is nothing to restore when we are stopped or killed.
        self._console.show_cursor(True)

    def looked_up(self, count: int) -> None:
        """Show how many images have been looked up."""
        self._progress.update(self._all, description=f"{count} images looked up")

    def show(self, event: BatchEvent) -> None:
        """Move the bars, or print what stays."""
        self._totals.take(event)
        if isinstance(event, BatchPlanned):
            self._progress.update(self._all, total=_UNITS)
        elif isinstance(event, TaskStarted):
            self._remove(event.task.id)
            self._tasks[event.task.id] = self._progress.add_task(
                event.task.name, total=_UNITS, state=_DOING[event.task.kind], left=""
            )
        elif isinstance(event, TaskAdvanced):
            if event.task.id in self._tasks and event.total_bytes:
                done = _UNITS * event.done_bytes / event.total_bytes
                self._progress.update(self._tasks[event.task.id], completed=done)
        elif isinstance(event, TaskFinished | TaskLost):
            self._remove(event.task.id)
        line = event_line(event)
        if line is not None:
            self.refresh()  # else the line would be printed above bars that have gone
            self._console.print(line, markup=False, highlight=False)
        self._show_all()

    def refresh(self) -> None:
        """Draw the bars now; they are drawn several times in a second anyway."""
        self._progress.refresh()

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()

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

    def _remove(self, task: str) -> None:
        known = self._tasks.pop(task, None)
        if known is not None:
            self._progress.remove_task(known)
