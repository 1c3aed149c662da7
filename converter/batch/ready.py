"""Which task is next: those whose needs are met, the head of the longest way first. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from converter.batch.plan import Task


class Ready:
    """The tasks of a plan that are not begun yet, and what they wait for.

    `lanes` cuts them into kinds that have workers of their own: tasks of one lane never wait for a
    worker of another.
    """

    def __init__(self, tasks: Iterable[Task], lane_of: dict[str, str] | None = None) -> None:
        """Begin with `tasks`, each behind its needs; `lane_of` maps kinds' values to lanes."""
        self._lane_of = lane_of or {}
        self._tasks: dict[str, Task] = {}
        self._order: dict[str, int] = {}
        self._waiting: dict[str, set[str]] = {}
        self._wanting: dict[str, list[str]] = {}
        self._heaps: dict[str, list[tuple[int, int, str]]] = {}
        for number, task in enumerate(tasks):
            self._tasks[task.id] = task
            self._order[task.id] = number
            self._waiting[task.id] = set(task.needs)
            for need in task.needs:
                self._wanting.setdefault(need, []).append(task.id)
            if not task.needs:
                self.put(task)

    def put(self, task: Task) -> None:
        """Take a task whose needs are met, or one back whose worker died."""
        lane = self._lane_of.get(task.kind.value, "")
        entry = (-task.rank_bytes, self._order[task.id], task.id)
        heapq.heappush(self._heaps.setdefault(lane, []), entry)

    def take(self, lane: str = "") -> Task | None:
        """Return the next task of a lane, which the caller begins; None if none can be begun."""
        heap = self._heaps.get(lane)
        return self._tasks[heapq.heappop(heap)[2]] if heap else None

    def done(self, task: Task) -> None:
        """Let those that need `task`, and nothing else any more, be next."""
        for wanting in self._wanting.pop(task.id, ()):
            missing = self._waiting[wanting]
            missing.discard(task.id)
            if not missing:
                self.put(self._tasks[wanting])

    def drop_all(self) -> None:
        """Begin nothing any more."""
        self._heaps.clear()
        self._wanting.clear()
