"""How far a conversion is as a whole: sums over all layers, and how long it may still take.

Owns the arithmetic, not how it is shown. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converter.events import (
    CONVERT,
    PULL,
    Event,
    StepAdvanced,
    StepFinished,
    StepStarted,
    WorkPlanned,
)

Clock = Callable[[], float]  # seconds, from any beginning

_SETTLED_SECONDS = 1.0  # before that a rate says nothing


@dataclass(slots=True)
class _Step:
    total_bytes: int
    done_bytes: int = 0


class Totals:
    """Follow the events of planned work. All sizes are in bytes of layers as they are stored."""

    def __init__(self, clock: Clock) -> None:
        self.layers = 0
        self.planned_bytes = 0
        self._clock = clock
        self._began: float | None = None
        self._moved_bytes = 0  # what was really done, without what was there already
        self._pulls = False
        self._done = {PULL: 0, CONVERT: 0}
        self._steps: dict[tuple[str, str], _Step] = {}

    def take(self, event: Event) -> None:
        """Count an event. Work that was not planned counts for nothing."""
        if isinstance(event, WorkPlanned):
            self.layers += event.layers
            self.planned_bytes += event.total_bytes
            self._began = self._clock() if self._began is None else self._began
        elif isinstance(event, StepStarted):
            if self.layers and event.phase in self._done:
                self._pulls |= event.phase == PULL
                self._steps[event.step, event.phase] = _Step(event.total_bytes or 0)
        elif isinstance(event, StepAdvanced):
            self._moved_bytes += self._reach(event.step, event.phase, event.done_bytes)
        elif isinstance(event, StepFinished):
            step = self._steps.get((event.step, event.phase))
            if step is not None:
                added = self._reach(event.step, event.phase, step.total_bytes)
                self._moved_bytes += 0 if event.minor and step.total_bytes == added else added
                del self._steps[event.step, event.phase]

    @property
    def pulled_bytes(self) -> int:
        """How much is here that had to be pulled."""
        return self._done[PULL]

    @property
    def converted_bytes(self) -> int:
        """How much of the layers is in links."""
        return self._done[CONVERT]

    @property
    def pulls(self) -> bool:
        """Whether blobs have to be pulled at all."""
        return self._pulls

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        work = self.planned_bytes * (2 if self._pulls else 1)
        return min(1.0, sum(self._done.values()) / work) if work else 0.0

    def remaining_seconds(self) -> float | None:
        """Return how long the rest takes at the pace so far; None while that is not known."""
        elapsed = 0.0 if self._began is None else self._clock() - self._began
        if elapsed < _SETTLED_SECONDS or not self._moved_bytes:
            return None
        work = self.planned_bytes * (2 if self._pulls else 1)
        return max(0, work - sum(self._done.values())) * elapsed / self._moved_bytes

    def _reach(self, name: str, phase: str, done_bytes: int) -> int:
        """Let a step be as far as that, and return how far it came with it."""
        step = self._steps.get((name, phase))
        if step is None:
            return 0
        added = max(0, min(done_bytes, step.total_bytes) - step.done_bytes)
        step.done_bytes += added
        self._done[phase] += added
        return added
