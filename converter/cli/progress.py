"""Progress on stderr: on a terminal, in a log, for a program, or not at all.

Owns the choice and the forms that are lines; the terminal's bars are `converter.cli.bars`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

import click

from converter.cli.totals import Clock, Totals
from converter.events import (
    CONVERT,
    PULL,
    Event,
    Note,
    StepAdvanced,
    StepFinished,
    StepStarted,
    WorkPlanned,
)

STYLES = ("auto", "tty", "plain", "json", "none")
SCHEMA = 1  # of the JSON form: docs/progress.md
PHASES = {PULL: "pulling", CONVERT: "converting", "": ""}
_PLAIN_INTERVAL_SECONDS = 5.0
_NO_BARS = frozenset({"dumb", "unknown"})  # values of TERM: such a terminal cannot move its cursor
_EVENTS: dict[type, str] = {
    WorkPlanned: "planned",
    StepStarted: "started",
    StepAdvanced: "advanced",
    StepFinished: "finished",
    Note: "note",
}
Say = Callable[[str], None]


class Renderer(Protocol):
    """Shows events until it is closed. One thread at a time calls it."""

    def show(self, event: Event) -> None:
        """Render one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def has_bars(style: str) -> bool:
    """Tell whether `style` (one of STYLES) means bars, where there is a terminal for them."""
    if style == "auto":
        style = "tty" if sys.stderr.isatty() else "plain"
    return style == "tty" and os.environ.get("TERM", "") not in _NO_BARS


def make_renderer(style: str, *, verbose: bool) -> Renderer:
    """Return the renderer that `style` (one of STYLES) names, or the best that there can be."""
    if has_bars(style):
        from converter.cli.bars import BarRenderer  # noqa: PLC0415 - rich is slow to import

        return BarRenderer(verbose=verbose, clock=time.monotonic)
    if style in {"auto", "tty", "plain"}:
        return PlainRenderer(say, verbose=verbose, clock=time.monotonic)
    if style == "json":
        return _JsonRenderer()
    return _SilentRenderer()


def say(line: str) -> None:
    """Write a line to stderr."""
    click.echo(line, err=True)


def finished_line(event: StepFinished | Note) -> str:
    """Return what stays of an event when progress has gone on."""
    if isinstance(event, Note):
        return f"Warning: {event.text}" if event.warning else event.text
    return f"{event.step}: {event.summary}" if event.summary else event.step


class _SilentRenderer:
    def show(self, event: Event) -> None:
        if isinstance(event, Note) and event.warning:
            say(finished_line(event))

    def close(self) -> None:
        pass


class PlainRenderer:
    """One line for each finished step, and a sign of life at most every five seconds."""

    def __init__(self, say: Say, *, verbose: bool, clock: Clock) -> None:
        self._say = say
        self._verbose = verbose
        self._clock = clock
        self._sizes: dict[tuple[str, str], int | None] = {}
        self._totals = Totals(clock)
        self._last_sign = clock()

    def show(self, event: Event) -> None:
        """Say what is worth a line."""
        self._totals.take(event)
        if isinstance(event, WorkPlanned):
            return
        if isinstance(event, StepStarted):
            self._sizes[event.step, event.phase] = event.total_bytes
            if self._verbose:
                self._say(": ".join(filter(None, (event.step, PHASES[event.phase]))) + " ...")
        elif isinstance(event, StepAdvanced):
            if self._clock() - self._last_sign >= _PLAIN_INTERVAL_SECONDS:
                self._last_sign = self._clock()
                self._say(self._sign(event))
        elif self._verbose or not event.minor:
            self._last_sign = self._clock()
            self._say(finished_line(event))

    def close(self) -> None:
        """There is nothing to take back."""

    def _sign(self, event: StepAdvanced) -> str:
        size = self._sizes.get((event.step, event.phase))
        share = f" of {_mb(size)}" if size else ""
        amount = f"{_mb(event.done_bytes)}{share} MB"
        line = f"{event.step}: {' '.join(filter(None, (PHASES[event.phase], amount)))}"
        totals = self._totals
        if not event.phase or not totals.planned_bytes:
            return line
        pulled = f"{_mb(totals.pulled_bytes)} pulled, " if totals.pulls else ""
        line += f"; in all {pulled}{_mb(totals.converted_bytes)} converted"
        line += f" of {_mb(totals.planned_bytes)} MB"
        left = totals.remaining_seconds()
        return line if left is None else f"{line}, {duration(left)} left"


class _JsonRenderer:
    """One JSON object for each event, on a line of its own. (docs/progress.md)"""

    def show(self, event: Event) -> None:
        document = {"schema": SCHEMA, "event": _EVENTS[type(event)], **asdict(event)}
        say(json.dumps(document))

    def close(self) -> None:
        pass


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours if there are any: 0:07, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f}"
