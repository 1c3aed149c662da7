"""Progress on a terminal: a bar for each layer at work, and one for all of them.

A layer's bar fills twice, when it is pulled and when it is converted, as docker's do. Layers that
wait have none, so the bars fit on any screen however many layers there are; what is finished stays
above them as a line.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from converter.cli.progress import PHASES, duration, finished_line
from converter.cli.totals import Clock, Totals
from converter.events import Event, StepAdvanced, StepFinished, StepStarted, WorkPlanned

_ALL = "in all"
_ALL_UNITS = 1000  # of the bar for all, which counts no bytes: each may be handled twice
_WIDEST_BAR = 40
_NARROWEST_BAR = 8  # on a terminal with less room for it there is none
_TEXT_COLUMNS = 44  # what stands beside a bar, at most
_STATE_COLUMNS = max(map(len, PHASES.values()))


class BarRenderer:
    """Shows events as bars on `console`, which is a terminal; without one, on stderr."""

    def __init__(self, *, verbose: bool, clock: Clock, console: Console | None = None) -> None:
        self._verbose = verbose
        self._totals = Totals(clock)
        self._tasks: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        self._console = console or Console(stderr=True)
        room = min(_WIDEST_BAR, self._console.width - _TEXT_COLUMNS)
        self._progress = _Bars(
            TextColumn("{task.description}", markup=False, table_column=column()),
            TextColumn("{task.fields[state]}", style="cyan", table_column=column(_STATE_COLUMNS)),
            *([BarColumn(room)] if room >= _NARROWEST_BAR else []),
            _Amount(column()),
            TextColumn("{task.fields[left]}", style="cyan", table_column=column()),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # results come after progress has ended
        )
        self._progress.start()
        # Kept in sight: then there is nothing to restore when we are stopped or killed.
        self._console.show_cursor(True)

    def show(self, event: Event) -> None:
        """Move the bars, or print what stays."""
        self._totals.take(event)
        if isinstance(event, WorkPlanned):
            self._plan(event)
        elif isinstance(event, StepStarted):
            self._start(event)
        elif isinstance(event, StepAdvanced):
            if event.step in self._tasks:
                self._progress.update(self._tasks[event.step], completed=event.done_bytes)
        else:
            if isinstance(event, StepFinished):
                self._remove(event.step)
            if self._verbose or not event.minor:
                self.refresh()  # else the line would be printed above bars that have gone
                self._console.print(finished_line(event), markup=False, highlight=False)
        if self._all is not None:
            left = self._totals.remaining_seconds()
            self._progress.update(
                self._all,
                completed=self._totals.share * _ALL_UNITS,
                state=f"{self._totals.share:.0%}",
                left="" if left is None else f"{duration(left)} left",
            )

    def refresh(self) -> None:
        """Draw the bars now; they are drawn several times in a second anyway."""
        self._progress.refresh()

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()

    def _plan(self, event: WorkPlanned) -> None:
        if self._all is None:
            self._all = self._progress.add_task(
                _ALL, total=_ALL_UNITS, state="", left="", whole_bytes=event.total_bytes
            )

    def _start(self, event: StepStarted) -> None:
        self._remove(event.step)
        self._tasks[event.step] = self._progress.add_task(
            event.step, total=event.total_bytes, state=PHASES[event.phase], left=""
        )

    def _remove(self, step: str) -> None:
        task = self._tasks.pop(step, None)
        if task is not None:
            self._progress.remove_task(task)


class _Bars(Progress):
    """The library's bars, which stand in the order of their age, with that for all below them."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        return super().make_tasks_table(sorted(tasks, key=_is_for_all))


class _Amount(ProgressColumn):
    """How many MB of how many; of the bar for all, how many there are."""

    def render(self, task: Task) -> Text:
        done = f"{task.completed / 1e6:.1f}"
        if _is_for_all(task):
            text = f"{task.fields['whole_bytes'] / 1e6:.1f} MB"
        elif task.total is None:
            text = f"{done} MB" if task.completed else ""
        else:
            text = f"{done}/{task.total / 1e6:.1f} MB"
        return Text(text, style="progress.download", justify="right")


def column(width: int | None = None) -> Column:
    """Return a column of a table of bars; `width` is in characters, None for what it needs."""
    # Cropped, since an ellipsis is no character of every encoding.
    return Column(width=width, no_wrap=True, overflow="crop")


def _is_for_all(task: Task) -> bool:
    return "whole_bytes" in task.fields
