"""Progress on a terminal: a bar for each layer at work, and one for all of them.

A layer's bar fills twice, when it is pulled and when it is converted, as docker's do. Layers that
wait have none, so the bars fit on any screen however many layers there are; what is finished stays
above them as a line.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from converter.cli.bar_screen import BarScreen, bar_column, column
from converter.cli.progress import PHASES, duration, finished_line
from converter.cli.totals import Clock, Totals
from converter.events import Event, StepAdvanced, StepFinished, StepStarted, WorkPlanned

_ALL = "in all"
_ALL_UNITS = 1000  # of the bar for all, which counts no bytes: each may be handled twice
_WIDEST_BAR = 40
_TEXT_COLUMNS = 44  # what stands beside a bar, at most
_STATE_COLUMNS = max(map(len, PHASES.values()))


class BarRenderer(BarScreen):
    """Shows events as bars on `console`, which is a terminal; without one, on stderr."""

    def __init__(self, *, verbose: bool, clock: Clock, console: Console | None = None) -> None:
        self._verbose = verbose
        self._totals = Totals(clock)
        self._all: TaskID | None = None
        console = console or Console(stderr=True)
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=column()),
            TextColumn("{task.fields[state]}", style="cyan", table_column=column(_STATE_COLUMNS)),
            *bar_column(console, widest=_WIDEST_BAR, beside=_TEXT_COLUMNS),
            _Amount(column()),
            TextColumn("{task.fields[left]}", style="cyan", table_column=column()),
            console=console,
            kind=_Bars,
        )
        self._open()

    def show(self, event: Event) -> None:
        """Move the bars, or print what stays."""
        self._totals.take(event)
        if isinstance(event, WorkPlanned):
            self._plan(event)
        elif isinstance(event, StepStarted):
            self._begin(event.step, event.step, total=event.total_bytes, state=PHASES[event.phase])
        elif isinstance(event, StepAdvanced):
            self._advance(event.step, event.done_bytes)
        else:
            if isinstance(event, StepFinished):
                self._end(event.step)
            if self._verbose or not event.minor:
                self._print(finished_line(event))
        if self._all is not None:
            left = self._totals.remaining_seconds()
            self._progress.update(
                self._all,
                completed=self._totals.share * _ALL_UNITS,
                state=f"{self._totals.share:.0%}",
                left="" if left is None else f"{duration(left)} left",
            )

    def _plan(self, event: WorkPlanned) -> None:
        if self._all is None:
            self._all = self._progress.add_task(
                _ALL, total=_ALL_UNITS, state="", left="", whole_bytes=event.total_bytes
            )


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


def _is_for_all(task: Task) -> bool:
    return "whole_bytes" in task.fields
