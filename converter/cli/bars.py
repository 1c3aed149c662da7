"""Progress on a terminal: a bar for each layer at work, and one for all of them.

A layer's bar fills twice, when it is pulled and when it is converted, as docker's do. Layers that
wait have none, so the bars fit on any screen however many layers there are; what is finished stays
above them as a line.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from converter.cli.progress import PHASES, duration, finished_line
from converter.cli.totals import Clock, Totals
from converter.events import Event, StepAdvanced, StepFinished, StepStarted, WorkPlanned

_ALL = "in all"
_WIDEST_BAR = 40
_NARROWEST_BAR = 4
_TEXT_COLUMNS = 42  # what stands beside a bar, at most
_SCALE = 1000  # of the bar for all, which has no unit


class BarRenderer:
    """Shows events as bars on stderr, which is a terminal."""

    def __init__(self, *, verbose: bool, clock: Clock) -> None:
        self._verbose = verbose
        self._totals = Totals(clock)
        self._tasks: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        self._console = Console(stderr=True)
        room = self._console.width - _TEXT_COLUMNS
        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[state]}", style="progress.remaining"),
            BarColumn(max(_NARROWEST_BAR, min(_WIDEST_BAR, room))),
            _Amount(),
            TextColumn("{task.fields[left]}", style="progress.remaining"),
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
                self._finish(event.step)
            if self._verbose or not event.minor:
                self._console.print(finished_line(event), markup=False, highlight=False)
        if self._all is not None:
            left = self._totals.remaining_seconds()
            self._progress.update(
                self._all,
                completed=self._totals.share * _SCALE,
                state=f"{self._totals.share:.0%}",
                left="" if left is None else f"{duration(left)} left",
            )

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()

    def _plan(self, event: WorkPlanned) -> None:
        if self._all is None:
            self._all = self._progress.add_task(
                _ALL, total=_SCALE, state="", left="", whole_bytes=event.total_bytes
            )

    def _start(self, event: StepStarted) -> None:
        self._finish(event.step)
        self._tasks[event.step] = self._progress.add_task(
            event.step, total=event.total_bytes, state=PHASES[event.phase], left=""
        )
        self._keep_all_last()

    def _finish(self, step: str) -> None:
        task = self._tasks.pop(step, None)
        if task is not None:
            self._progress.remove_task(task)

    def _keep_all_last(self) -> None:
        """Put the bar for all below the newest bar: the library shows them by their age."""
        if self._all is None:
            return
        fields = next(task.fields for task in self._progress.tasks if task.id == self._all)
        self._progress.remove_task(self._all)
        self._all = self._progress.add_task(_ALL, total=_SCALE, **fields)


class _Amount(ProgressColumn):
    """How many MB of how many; of the bar for all, how many there are."""

    def render(self, task: Task) -> Text:
        done = f"{task.completed / 1e6:.1f}"
        if "whole_bytes" in task.fields:
            text = f"{task.fields['whole_bytes'] / 1e6:.1f} MB"
        elif task.total is None:
            text = f"{done} MB" if task.completed else ""
        else:
            text = f"{done}/{task.total / 1e6:.1f} MB"
        return Text(text, style="progress.download", justify="right", no_wrap=True)
