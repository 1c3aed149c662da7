"""How far one task is: the events of its steps as two numbers. Pure."""

from __future__ import annotations

from converter.events import PULL, Event, StepAdvanced, StepFinished, StepStarted


class Progress:
    """Bytes of all steps of a task together; a step's fetches are not counted beside its work."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    @property
    def done_bytes(self) -> int:
        """How many bytes are done."""
        return sum(self._done.values())

    @property
    def total_bytes(self) -> int:
        """How many there are in the steps that have begun."""
        return sum(self._total.values())

    def take(self, event: Event) -> bool:
        """Count an event; tell whether it changed anything."""
        if isinstance(event, StepStarted | StepAdvanced | StepFinished) and event.phase == PULL:
            return False
        if isinstance(event, StepStarted):
            self._total[event.step] = event.total_bytes or 0
            return True
        if isinstance(event, StepAdvanced):
            self._done[event.step] = event.done_bytes
            return True
        if isinstance(event, StepFinished):
            self._done[event.step] = self._total.get(event.step, 0)
            return True
        return False
