"""What the core tells whoever watches. Owns the event types; imports nothing of ours.

The core never prints: it calls a `Monitor` with frozen events, and `converter.cli.progress` renders
them. `ignore` is the monitor for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PULL = "pull"
CONVERT = "convert"


@dataclass(frozen=True, slots=True)
class WorkPlanned:
    """So many layers are to be converted, whose blobs have `total_bytes` in all.

    It comes before their steps. Each phase that a layer goes through handles its bytes once.
    """

    layers: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A named piece of work begins; `total_bytes` is None when it is not known beforehand.

    One that goes on from place to place has a `phase`: a layer is first PULLed, then CONVERTed.
    """

    step: str
    total_bytes: int | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class StepAdvanced:
    """`step` has handled `done_bytes` in all of this phase so far."""

    step: str
    done_bytes: int
    phase: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """`step` is done with this phase; `summary` is one short phrase for the log ("12.3 MB").

    A `minor` one had nothing to do or goes on in another phase, and is shown only to who wants to
    know everything.
    """

    step: str
    summary: str = ""
    minor: bool = False
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know that is neither progress nor an error."""

    text: str
    warning: bool = False
    minor: bool = False


Event = WorkPlanned | StepStarted | StepAdvanced | StepFinished | Note
Monitor = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Be the monitor that nobody watches."""
