"""A plan on one machine, as its executor does it: processes that convert, threads that fetch.

The order of things is the product's own (`converter.batch.ready`), so are the events: what a
simulated batch did can be shown and summed up like any other. Pure: time passes on paper.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from converter.batch.events import (
    BatchEvent,
    BatchPlanned,
    LinkMade,
    Outcome,
    TaskFinished,
    TaskStarted,
)
from converter.batch.plan import Plan, Task, TaskKind, Whereabouts
from converter.batch.ready import Ready
from converter.batch.tally import Tally
from scripts.simulations.costs import Costs
from scripts.simulations.pipes import NEVER, Pipe

_WAITING, _COMPUTING = "waiting", ""
_LANES = {TaskKind.FETCH.value: _WAITING, TaskKind.RECORD.value: _WAITING}
_BEGINNING = -1  # among the numbers of tasks: when processes can be started


@dataclass(frozen=True, slots=True)
class Content:
    """What a layer has in it: bytes of content, in how many files, and what blocks these take."""

    content_bytes: int
    files: int
    block_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with a batch on it: its processors, and how many tasks of each kind at a time.

    `offers` says that every link that is made goes to a cache, too.
    """

    processors: float
    jobs: int
    fetches: int
    offers: bool = False


def simulate(
    plan: Plan, contents: Mapping[str, Content], costs: Costs, machine: Machine
) -> Iterator[BatchEvent]:
    """Yield the events of a batch whose store is empty; `contents` are those of blobs by digest.

    Plans of links alone: exports, pushes and imports have no costs here.
    """
    tally = Tally(plan)
    yield BatchPlanned(plan, machine.jobs)
    yield from tally.begin()
    now = 0.0
    for event in _Run(plan, contents, costs, machine).events():
        if isinstance(event, TaskFinished):
            now = event.at_seconds
        yield event
        yield from tally.take(event)
    yield from tally.finish(now)


class _Run:
    """One batch under way."""

    def __init__(
        self, plan: Plan, contents: Mapping[str, Content], costs: Costs, machine: Machine
    ) -> None:
        self._plan = plan
        self._contents = contents
        self._costs = costs
        self._offers = machine.offers
        self._ready = Ready(plan.tasks, _LANES)
        self._idle = {
            _WAITING: [f"fetch {number}" for number in range(machine.fetches, 0, -1)],
            _COMPUTING: [],  # whose processes cannot be started before the one that starts them
        }
        self._to_come = [f"worker {number}" for number in range(machine.jobs, 0, -1)]
        self._fresh = set(self._to_come)  # have converted nothing yet
        self._doing: list[tuple[Task, str, float]] = []
        self._times: list[tuple[float, int]] = [(costs.begin_seconds, _BEGINNING)]
        self._processors = Pipe(machine.processors)
        self._now = 0.0

    def events(self) -> Iterator[TaskStarted | TaskFinished]:
        while True:
            for lane in (_WAITING, _COMPUTING):
                while self._idle[lane] and (task := self._ready.take(lane)) is not None:
                    yield self._begin(task, self._idle[lane].pop())
            at = self._times[0][0] if self._times else NEVER
            end = self._processors.end
            if min(at, end) == NEVER:
                return
            self._now = min(at, end)
            if end < at:
                yield self._end(self._processors.pop())
            elif (number := heapq.heappop(self._times)[1]) == _BEGINNING:
                self._idle[_COMPUTING] = self._to_come
            else:
                self._work(number)

    def _begin(self, task: Task, worker: str) -> TaskStarted:
        """Let a task wait for what takes no processor."""
        number = len(self._doing)
        self._doing.append((task, worker, self._now))
        seconds = self._costs.fetch_seconds if task.kind is TaskKind.FETCH else 0.0
        heapq.heappush(self._times, (self._now + seconds, number))
        return TaskStarted(task, worker, self._now)

    def _work(self, number: int) -> None:
        """Let a task use the processors."""
        task, worker, _ = self._doing[number]
        costs = self._costs
        if task.kind is TaskKind.FETCH:
            work = _Work(costs.fetch_byte_seconds * self._plan.blobs[task.blob].size_bytes, 0.0)
            most = costs.fetch_processors
        elif task.kind is TaskKind.RECORD:
            work, most = _Work(0.0, costs.record_seconds), costs.other_processors
        elif task.kind is TaskKind.CONVERT:
            work = conversion_work(self._plan, task, self._contents, costs, offers=self._offers)
            if worker in self._fresh:
                self._fresh.discard(worker)
                work = _Work(work.content_seconds + costs.worker_seconds, work.other_seconds)
            most = work.processors(costs)
        else:
            raise ValueError(f"the model has no costs for {task.kind.value}: {task.name}")
        self._processors.add(self._now, number, work.seconds * most, most=most)

    def _end(self, number: int) -> TaskFinished:
        task, worker, began = self._doing[number]
        lane = _LANES.get(task.kind.value, _COMPUTING)
        self._idle[lane].append(worker)
        self._ready.done(task)
        return TaskFinished(task, worker, began, self._now, self._outcome(task))

    def _outcome(self, task: Task) -> Outcome:
        if task.kind is TaskKind.FETCH:
            return Outcome(fetched_bytes=self._plan.blobs[task.blob].size_bytes)
        links: list[LinkMade] = []
        sent = 0
        for key in task.links:
            blobs = self._plan.links[key].blobs
            size = self._costs.link_bytes(
                _sum(blobs, lambda blob: self._contents[blob].block_bytes),
                _sum(blobs, lambda blob: self._contents[blob].files),
            )
            links.append(LinkMade(key, size, "", is_new=True))
            if self._offers:
                sent += self._costs.transport_bytes(
                    _sum(blobs, lambda blob: self._plan.blobs[blob].size_bytes),
                    _sum(blobs, lambda blob: self._contents[blob].content_bytes),
                    _sum(blobs, lambda blob: self._contents[blob].files),
                )
        written = sum(link.size_bytes for link in links)
        return Outcome(written_bytes=written, sent_bytes=sent, links=tuple(links))


@dataclass(frozen=True, slots=True)
class _Work:
    """What a task takes when nothing disturbs it: for its content, and for all else."""

    content_seconds: float
    other_seconds: float

    @property
    def seconds(self) -> float:
        return self.content_seconds + self.other_seconds

    def processors(self, costs: Costs) -> float:
        """Return how many processors a conversion keeps busy meanwhile."""
        used = self.content_seconds * costs.content_processors
        used += self.other_seconds * costs.other_processors
        return used / self.seconds


def conversion_work(
    plan: Plan, task: Task, contents: Mapping[str, Content], costs: Costs, *, offers: bool
) -> _Work:
    """Return what a CONVERT takes when nothing disturbs it; with `offers`, links go to a cache."""
    files_below = 0
    below = plan.links[task.links[0]].parent
    while below:
        files_below += _sum(plan.links[below].blobs, lambda blob: contents[blob].files)
        below = plan.links[below].parent
    missing = [key for key in task.links if plan.links[key].where is Whereabouts.MISSING]
    content_seconds = 0.0
    for key in missing:
        blobs = plan.links[key].blobs
        content_bytes = _sum(blobs, lambda blob: contents[blob].content_bytes)
        content_seconds += costs.content_seconds(
            _sum(blobs, lambda blob: plan.blobs[blob].size_bytes),
            content_bytes,
            _sum(blobs, lambda blob: contents[blob].files),
        )
        content_seconds += costs.offer_seconds(content_bytes) if offers else 0.0
    return _Work(content_seconds, costs.other_seconds(len(missing), files_below))


def _sum(blobs: tuple[str, ...], of: Callable[[str], int]) -> int:
    return sum(map(of, blobs))
