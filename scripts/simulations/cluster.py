"""Many links on a cluster: what happens when, with shared networks. Pure.

A link goes through these stages: what it stands on is pulled unless its worker has it, its blob is
fetched, it is converted, it is pushed. Any number of links are on their way at once, each worker
converts one at a time. What several use at once is a `Pipe`; all else is a time on a heap. It knows
links and no plan of the product's, whose values for half a million links would not fit in memory.
"""

from __future__ import annotations

import enum
import heapq
from array import array
from collections import deque
from dataclasses import dataclass, field

from scripts.simulations.costs import Costs, Site
from scripts.simulations.pipes import NEVER, Pipe
from scripts.simulations.population import NO_PARENT, Forest


class Exchange(enum.Enum):
    """How a worker comes by what its links stand on."""

    NONE = "none"  # nothing stands on anything: for images that are converted one by one
    LINKS = "links"  # disks and states, through a registry
    STATES = "states"  # states alone: a link needs nothing else of those below


class Placement(enum.Enum):
    """Which worker makes a link."""

    ANY = "any"  # the first that is free makes the first that is ready
    CHAIN = "by chain"  # who made what it stands on goes on, if he is free; others when idle


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. Bytes are sums over all workers, shares are of the whole time."""

    seconds: float
    links: int
    source_bytes: int
    fetched_again: int  # blobs that a second worker fetched, and so on
    pushed_bytes: int
    pulled_bytes: int
    pulls: int  # links for which something had to be pulled
    shares: dict[str, float] = field(default_factory=dict)  # resource -> how busy it was
    bounds: dict[str, float] = field(default_factory=dict)  # resource -> seconds without waiting


class _Stage(enum.IntEnum):
    ASKED = 0  # the registries have answered
    PULLING = 1  # what is no network's time of a pull is over
    CONVERTED = 2


class _Worker:
    """One worker: what it has, and what waits for it."""

    __slots__ = ("blobs", "converting", "free", "links", "own", "queue")

    def __init__(self, slots: int) -> None:
        self.free = slots
        self.converting = False
        self.queue: deque[int] = deque()  # fetched, to be converted
        self.own: list[tuple[float, int]] = []  # links on what this worker has or is making
        self.links: set[int] = set()
        self.blobs: set[int] = set()


class Simulation:
    """One batch on a cluster. `run` may be called once."""

    def __init__(
        self, forest: Forest, costs: Costs, site: Site, exchange: Exchange, placement: Placement
    ) -> None:
        self._forest = forest
        self._costs = costs
        self._site = site
        self._exchange = exchange
        self._by_chain = placement is Placement.CHAIN
        count = len(forest.parents)
        self._exchanges = exchange is not Exchange.NONE
        self._seconds = array("d", map(self._alone, range(count)))
        self._urgency = self._longest_above()
        self._children: list[list[int]] = [[] for _ in range(count)]
        for link, parent in enumerate(forest.parents):
            if parent != NO_PARENT:
                self._children[parent].append(link)
        self._workers = [_Worker(site.slots) for _ in range(site.workers)]
        self._worker_of = array("q", [-1]) * count
        self._converted = bytearray(count)
        self._wanting: dict[int, list[int]] = {}  # parent -> links whose blobs are here already
        self._ready: list[tuple[float, int]] = []
        self._idle = list(range(site.workers - 1, -1, -1))  # workers with a slot and nothing to do
        self._times: list[tuple[float, int, int, int]] = []
        self._order = 0
        # A fetch that nothing disturbs has this rate, however much the networks could give.
        self._fetch_rate = min(site.worker_rate, 1 / costs.fetch_byte_seconds)
        self._pull_rate = min(site.worker_rate, 1 / costs.pull_byte_seconds)
        self._source = Pipe(site.source_rate)
        self._up = Pipe(site.cache_rate)
        self._down = Pipe(site.cache_rate)
        self._now = 0.0
        self._blobs: set[int] = set()
        self._missing: dict[int, int] = {}  # link -> bytes to be pulled for it, soon
        self._source_bytes = self._again = 0
        self._pushed = self._pulled = self._pulls = 0
        self._busy = 0.0

    def run(self) -> Outcome:
        """Let everything happen, and sum it up."""
        for link, parent in enumerate(self._forest.parents):
            if parent == NO_PARENT:
                heapq.heappush(self._ready, (-self._urgency[link], link))
        self._now = self._costs.begin_seconds
        self._wake()
        pipes = (self._source, self._down, self._up)
        ends = (self._fetched, self._pulled_all, self._done)
        while True:
            at = self._times[0][0] if self._times else NEVER
            first = -1
            for number, pipe in enumerate(pipes):
                if pipe.end < at:
                    at, first = pipe.end, number
            if at == NEVER:
                break
            self._now = at
            if first >= 0:
                ends[first](pipes[first].pop())
            else:
                _, _, stage, link = heapq.heappop(self._times)
                if stage == _Stage.ASKED:
                    self._asked(link)
                elif stage == _Stage.PULLING:
                    self._down.add(self._now, link, self._missing.pop(link), most=self._pull_rate)
                else:
                    self._made(link)
            self._wake()
        return self._outcome()

    def _alone(self, link: int) -> float:
        forest = self._forest
        blob = forest.blobs[link]
        costs = self._costs
        seconds = costs.other_seconds(1, forest.files_below[link]) + costs.content_seconds(
            forest.blob_bytes[blob], forest.raw_bytes[blob], forest.files[blob]
        )
        # Who compresses a link converts no other one: both want all of a processor.
        return seconds + (costs.offer_seconds(forest.raw_bytes[blob]) if self._exchanges else 0.0)

    def _longest_above(self) -> array[float]:
        """Return how long each link and the longest chain on it take: what is most urgent."""
        longest = array("d", self._seconds)
        parents = self._forest.parents
        for link in range(len(parents) - 1, -1, -1):
            parent = parents[link]
            if parent != NO_PARENT:
                longest[parent] = max(longest[parent], self._seconds[parent] + longest[link])
        return longest

    def _wake(self) -> None:
        """Give links to workers that have room, as long as there are both."""
        waiting = []
        while self._idle:
            number = self._idle.pop()
            worker = self._workers[number]
            link = self._next(worker)
            if link is None:
                waiting.append(number)
                if not self._ready and not any(self._workers[one].own for one in self._idle):
                    break
                continue
            worker.free -= 1
            if worker.free:
                self._idle.append(number)
            self._begin(number, worker, link)
        if waiting:
            self._idle = [*waiting[::-1], *self._idle]

    def _next(self, worker: _Worker) -> int | None:
        for ready in (worker.own, self._ready):
            while ready:
                _, link = heapq.heappop(ready)
                if self._worker_of[link] < 0:
                    return link
        return None

    def _begin(self, number: int, worker: _Worker, link: int) -> None:
        self._worker_of[link] = number
        if self._by_chain:
            for child in self._children[link]:
                heapq.heappush(worker.own, (-self._urgency[child], child))
        self._later(self._costs.fetch_seconds, _Stage.ASKED, link)

    def _asked(self, link: int) -> None:
        """Pull what the link stands on, or go on to its blob."""
        size, links = self._lacking(link)
        if links:
            self._pulls += 1
            self._pulled += size
            self._missing[link] = size
            self._later(self._costs.pull_seconds * links, _Stage.PULLING, link)
        else:
            self._pulled_all(link)

    def _lacking(self, link: int) -> tuple[int, int]:
        """Return the bytes to be pulled for a link, of how many links; let its worker have them."""
        forest, costs, held = self._forest, self._costs, self._workers[self._worker_of[link]].links
        size, links = 0, 0
        below = forest.parents[link]
        while below != NO_PARENT and below not in held:
            if self._worker_of[below] == self._worker_of[link]:
                break  # it is making it, or has made it, and so has what is below
            held.add(below)
            blob = forest.blobs[below]
            links += 1
            if self._exchange is Exchange.LINKS:
                size += self._transport_bytes(blob)
            else:
                size += int(costs.state_bytes * forest.files[blob]) + 1
            below = forest.parents[below]
        return size, links

    def _transport_bytes(self, blob: int) -> int:
        forest = self._forest
        return self._costs.transport_bytes(
            forest.blob_bytes[blob], forest.raw_bytes[blob], forest.files[blob]
        )

    def _pulled_all(self, link: int) -> None:
        blob = self._forest.blobs[link]
        blobs = self._workers[self._worker_of[link]].blobs
        if blob in blobs:
            self._fetched(link)
            return
        blobs.add(blob)
        self._again += blob in self._blobs
        self._blobs.add(blob)
        size = self._forest.blob_bytes[blob]
        self._source_bytes += size
        self._source.add(self._now, link, size, most=self._fetch_rate)

    def _fetched(self, link: int) -> None:
        parent = self._forest.parents[link]
        if parent != NO_PARENT and not self._converted[parent]:
            self._wanting.setdefault(parent, []).append(link)  # of the same worker
        else:
            self._convert(link)

    def _convert(self, link: int) -> None:
        worker = self._workers[self._worker_of[link]]
        if worker.converting:
            worker.queue.append(link)
            return
        worker.converting = True
        self._busy += self._seconds[link]
        self._later(self._seconds[link], _Stage.CONVERTED, link)

    def _made(self, link: int) -> None:
        worker = self._workers[self._worker_of[link]]
        worker.converting = False
        worker.links.add(link)
        self._converted[link] = 1
        for waiting in self._wanting.pop(link, ()):
            worker.queue.append(waiting)
        if worker.queue:
            self._convert(worker.queue.popleft())
        if not self._exchanges:
            self._done(link)
            return
        size = self._transport_bytes(self._forest.blobs[link])
        self._pushed += size
        self._up.add(self._now, link, size, most=self._site.worker_rate)

    def _done(self, link: int) -> None:
        """Let everybody have it, and its worker begin another one."""
        number = self._worker_of[link]
        worker = self._workers[number]
        for child in self._children[link]:
            if self._worker_of[child] < 0:
                heapq.heappush(self._ready, (-self._urgency[child], child))
        worker.free += 1
        if worker.free == 1:
            self._idle.append(number)

    def _later(self, seconds: float, stage: _Stage, link: int) -> None:
        self._order += 1
        heapq.heappush(self._times, (self._now + seconds, self._order, stage, link))

    def _outcome(self) -> Outcome:
        assert all(self._converted), "what nobody waits for is never made"
        site = self._site
        seconds = self._now
        return Outcome(
            seconds,
            len(self._converted),
            self._source_bytes,
            self._again,
            self._pushed,
            self._pulled,
            self._pulls,
            {
                "workers": self._busy / (seconds * site.workers),
                "source": self._source.busy_seconds / seconds,
                "cache, pushes": self._up.busy_seconds / seconds,
                "cache, pulls": self._down.busy_seconds / seconds,
            },
            {
                "workers": self._busy / site.workers,
                "source": self._source_bytes / site.source_rate,
                "cache, pushes": self._pushed / site.cache_rate,
                "cache, pulls": self._pulled / site.cache_rate,
                "longest chain": max(self._urgency),
            },
        )
