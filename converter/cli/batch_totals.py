"""How far a batch is as a whole, and how long it may still take. Pure: the clock is an argument.

Work is counted in the plan's costs, not in images: the last image may be most of it.
"""

from __future__ import annotations

from converter.batch.events import (
    BatchEvent,
    BatchPlanned,
    ImageFinished,
    ImageState,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.plan import Task
from converter.cli.progress import duration
from converter.cli.totals import Clock

_SETTLED_SECONDS = 2.0  # before that a rate says nothing
_LEAST_SHARE = 0.005  # nor does it then


class BatchTotals:
    """Follows the events of a batch."""

    def __init__(self, clock: Clock) -> None:
        self.images = self.ended = self.failed = 0
        self.fetched_bytes = 0
        self.active: dict[str, tuple[Task, float]] = {}  # task and its share that is done
        self._clock = clock
        self._began = clock()
        self._cost = 0
        self._done_cost = 0.0

    @property
    def share(self) -> float:
        """How much of all work is done, from 0 to 1."""
        if not self._cost:
            return self.ended / self.images if self.images else 0.0
        active = sum(task.cost_bytes * done for task, done in self.active.values())
        return min((self._done_cost + active) / self._cost, 1.0)

    def remaining_seconds(self) -> float | None:
        """Return how long the rest may take; None while nobody can know."""
        passed, share = self._clock() - self._began, self.share
        if passed < _SETTLED_SECONDS or share < _LEAST_SHARE:
            return None
        return passed * (1 - share) / share

    def take(self, event: BatchEvent) -> None:
        """Count an event."""
        if isinstance(event, BatchPlanned):
            self.images = len(event.plan.images)
            self._cost = sum(task.cost_bytes for task in event.plan.tasks)
            self._began = self._clock()
        elif isinstance(event, TaskStarted):
            self.active[event.task.id] = (event.task, 0.0)
        elif isinstance(event, TaskAdvanced):
            if event.task.id in self.active and event.total_bytes:
                done = min(event.done_bytes / event.total_bytes, 1.0)
                self.active[event.task.id] = (event.task, done)
        elif isinstance(event, TaskFinished):
            self.active.pop(event.task.id, None)
            self._done_cost += event.task.cost_bytes
            if event.outcome is not None:
                self.fetched_bytes += event.outcome.fetched_bytes
        elif isinstance(event, TaskLost):
            self.active.pop(event.task.id, None)
        elif isinstance(event, ImageFinished):
            self.ended += 1
            self.failed += event.state is ImageState.FAILED

    def line(self) -> str:
        """Return how far it is, in one line."""
        line = f"{self.ended} of {self.images} images, {self.share:.0%} of the work"
        if self.failed:
            line += f", {self.failed} failed"
        left = self.remaining_seconds()
        return line if left is None else f"{line}, {duration(left)} left"
