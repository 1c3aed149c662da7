"""Progress on stderr: on a terminal, in a log, for a program, or not at all."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

import click

from converter.events import Event, Note, StepAdvanced, StepFinished, StepStarted

if TYPE_CHECKING:
    from rich.progress import TaskID

STYLES = ("auto", "tty", "plain", "json", "none")
_PLAIN_INTERVAL_SECONDS = 5.0


class Renderer(Protocol):
    """Shows events until it is closed."""

    def show(self, event: Event) -> None:
        """Render one event. May come from several threads."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def make_renderer(style: str, *, verbose: bool) -> Renderer:
    """Return the renderer that `style` (one of STYLES) names."""
    if style == "auto":
        style = "tty" if sys.stderr.isatty() else "plain"
    if style == "tty":
        return _TerminalRenderer(verbose=verbose)
    if style == "plain":
        return _PlainRenderer(verbose=verbose)
    if style == "json":
        return _JsonRenderer()
    return _SilentRenderer()


class _SilentRenderer:
    def show(self, event: Event) -> None:
        if isinstance(event, Note) and event.warning:
            click.echo(f"Warning: {event.text}", err=True)

    def close(self) -> None:
        pass


class _PlainRenderer:
    """One line for each finished step, and a sign of life at most every five seconds."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._totals: dict[str, int | None] = {}
        self._last_sign = time.monotonic()

    def show(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self._totals[event.step] = event.total_bytes
            if self._verbose:
                click.echo(f"{event.step} ...", err=True)
        elif isinstance(event, StepAdvanced):
            now = time.monotonic()
            if now - self._last_sign >= _PLAIN_INTERVAL_SECONDS:
                self._last_sign = now
                total = self._totals.get(event.step)
                share = f" of {total / 1e6:.1f}" if total else ""
                click.echo(f"{event.step}: {event.done_bytes / 1e6:.1f}{share} MB", err=True)
        elif event.minor and not self._verbose:
            return
        else:
            self._last_sign = time.monotonic()
            click.echo(_line(event), err=True)

    def close(self) -> None:
        pass


class _JsonRenderer:
    """One JSON object for each event: its type's name and its fields."""

    def show(self, event: Event) -> None:
        document = {"event": type(event).__name__, **asdict(event)}
        click.echo(json.dumps(document), err=True)

    def close(self) -> None:
        pass


def _line(event: StepFinished | Note) -> str:
    if isinstance(event, Note):
        return f"Warning: {event.text}" if event.warning else event.text
    return f"{event.step}: {event.summary}" if event.summary else event.step


class _TerminalRenderer:
    """A bar for each step at work, finished ones as lines above."""

    def __init__(self, *, verbose: bool) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import, needed on terminals only
        from rich.progress import (  # noqa: PLC0415 - as above
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._verbose = verbose
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self._tasks[event.step] = self._progress.add_task(event.step, total=event.total_bytes)
        elif isinstance(event, StepAdvanced):
            if event.step in self._tasks:
                self._progress.update(self._tasks[event.step], completed=event.done_bytes)
        else:
            if isinstance(event, StepFinished):
                task = self._tasks.pop(event.step, None)
                if task is not None:
                    self._progress.remove_task(task)
            if self._verbose or not event.minor:
                self._progress.console.print(_line(event), markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()
