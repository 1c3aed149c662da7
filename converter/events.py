"""What the core tells whoever watches. Owns the event types; imports nothing of ours.

The core never prints: it calls a `Monitor` with frozen events, and `converter.cli.progress` renders
them. `ignore` is the monitor for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A named piece of work begins; `total_bytes` is None when it is not known beforehand."""

    step: str
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StepAdvanced:
    """`step` has handled `done_bytes` in all so far."""

    step: str
    done_bytes: int


@dataclass(frozen=True, slots=True)
class StepFinished:
    """`step` is done; `summary` is one short phrase for the log ("12.3 MB", "cached").

    A `minor` one had nothing to do and is shown only to who wants to know everything.
    """

    step: str
    summary: str = ""
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know that is neither progress nor an error."""

    text: str
    warning: bool = False
    minor: bool = False


Event = StepStarted | StepAdvanced | StepFinished | Note
Monitor = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Be the monitor that nobody watches."""
