"""The client's side: a plan given to Dask as a graph, and what comes back turned into events.

Each task is a future that needs the futures of the tasks before it, so Dask alone decides when and
where; ranks are its priorities. What is told of running tasks comes by Dask's event log. All times
are this host's, at which a message arrived: workers' clocks may differ.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from distributed import Client, Future, KilledWorker

from converter.batch.cluster import stores
from converter.batch.cluster.errand import Ended, Message, Word, rest, run_errand
from converter.batch.cluster.graph import Graph
from converter.batch.events import (
    Outcome,
    Said,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
    WatchTasks,
)
from converter.batch.executor import OrderOf
from converter.batch.failure import failure_of
from converter.batch.orders import CacheOrder
from converter.batch.plan import Plan, Task
from converter.errors import SaltflatError, UnavailableError
from converter.store.layout import Store

_SECOND_TRIES = 1  # of what a registry let down; Dask may choose another worker for it
_LOOK_SECONDS = 5.0
_NOBODY_SECONDS = 120.0  # without any worker; one that is restarted is there within seconds
_RESULT_SECONDS = 30.0
_REST_SECONDS = 30.0
_DIED = "its worker died"
_ALONG = "fetched with its link"


@contextmanager
def dask_executor(
    client: Client, store: Store, meeting: CacheOrder | None
) -> Iterator[DaskExecutor]:
    """Yield an executor on the workers that `client` reaches, for a batch into `store`.

    `meeting` is the cache by which workers exchange links if they have stores of their own. Raises
    UsageError if they do and have none, SaltflatError if one has another version of this program.
    """
    with stores.marked(store, uuid.uuid4().hex) as mark:
        shared = stores.is_shared(client, store.root, mark)
        if not shared:
            stores.check_meeting(store.root, meeting)
        yield DaskExecutor(client, mark if shared else "", meeting)


class DaskExecutor:
    """`converter.batch.executor.Executor` on a Dask cluster; made by `dask_executor`."""

    def __init__(self, client: Client, mark: str, meeting: CacheOrder | None) -> None:
        self._client = client
        self._mark = mark
        self._meeting = meeting

    @property
    def workers(self) -> int:
        """How many tasks are done side by side, at most: the threads of all workers."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    @property
    def shares_store(self) -> bool:
        """Whether all workers have the batch's store."""
        return bool(self._mark)

    def run(self, plan: Plan, order_of: OrderOf, watch: WatchTasks, *, keep_going: bool) -> None:
        """Do all tasks of `plan`; see `Executor`.

        Raises UnavailableError when nobody is left to work.
        """
        name = uuid.uuid4().hex  # a scheduler may have many batches
        graph = Graph(plan, order_of, name, mark=self._mark, meeting=self._meeting)
        with _Run(self._client, graph, watch, keep_going=keep_going) as run:
            run.wait()


@dataclass(slots=True)
class _Running:
    """A task that a worker has begun with, `attempt` times in all."""

    worker: str
    started_seconds: float
    attempt: int = 1
    gave_up: str = ""
    is_heard: bool = True  # of its beginning, which else follows from its end


class _Run:
    """One plan on its way: its futures, and what was told of them.

    All futures are kept to the end. A result that its worker took along is looked up again by
    whoever gets the task then; had Dask dropped the results below it, those tasks would begin again
    too, though their workers live.
    """

    def __init__(
        self,
        client: Client,
        graph: Graph,
        watch: WatchTasks,
        *,
        keep_going: bool,
    ) -> None:
        self._client = client
        self._graph = graph
        self._watch = watch
        self._keep_going = keep_going
        self._begun = time.monotonic()
        self._inbox: SimpleQueue[Message | tuple[Task, Future[Ended]]] = SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._futures: dict[str, Future[Ended]] = {}
        self._open: set[str] = set()  # whose end has not come
        self._running: dict[str, _Running] = {}
        self._failed: set[str] = set()

    def __enter__(self) -> Self:
        self._client.subscribe_topic(self._graph.topic, lambda event: self._inbox.put(event[1]))
        for task, needs, errand in self._graph.errands():
            future = self._client.submit(
                run_errand,
                errand,
                *(self._futures[need] for need in needs),
                key=self._graph.key(task),
                priority=task.rank_bytes,
                retries=_SECOND_TRIES,
                pure=False,
            )
            self._futures[task.id] = future
            self._tasks[task.id] = task
            self._open.add(task.id)
            future.add_done_callback(lambda done, task=task: self._inbox.put((task, done)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # Where there was an error, the scheduler may be what has gone.
        with suppress(*(() if kind is None else (Exception,))):
            self._client.unsubscribe_topic(self._graph.topic)
            if kind is not None:
                self._client.cancel(list(self._futures.values()), force=True)
                # Errands end at their next sign of progress; who does not answer has died.
                self._client.run(rest, self._graph.topic, _REST_SECONDS, on_error="ignore")

    def wait(self) -> None:
        """Tell what happens until every task has ended that can."""
        seen = time.monotonic()
        while self._open:
            try:
                item = self._inbox.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self._client.nthreads():
                    seen = time.monotonic()
                elif time.monotonic() - seen > _NOBODY_SECONDS:
                    raise UnavailableError(
                        f"The scheduler has had no worker for {_NOBODY_SECONDS:.0f} seconds.",
                        hint="Start some, then begin the batch again: it goes on where it was.",
                    ) from None
                continue
            if isinstance(item, tuple):
                self._end(*item)
            else:
                self._hear(item)

    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _hear(self, message: Message) -> None:
        word = Word(message["word"])
        name, worker = message["task"], message["who"]
        task = self._tasks[name]
        running = self._running.get(name)
        if word is Word.SAID:
            self._watch(Said(f"{task.name}: {message['text']}", is_warning=True))
        elif word is Word.STARTED:
            self._start(task, worker)
        elif running is None:
            pass  # of a worker that was taken for dead
        elif word is Word.GAVE_UP:
            running.gave_up = message["text"]
        elif name in self._open:
            self._watch(TaskAdvanced(task, message["done_bytes"], message["total_bytes"]))

    def _start(self, task: Task, worker: str) -> None:
        """Tell that a worker begins, and before it that another one is lost, if one was."""
        before = self._running.get(task.id)
        now = self._now()
        if before is not None and not before.is_heard:
            before.is_heard = True
            return
        if before is not None:
            reason = before.gave_up or _DIED
            self._watch(TaskLost(task, before.worker, before.started_seconds, now, reason))
        attempt = 1 if before is None else before.attempt + 1
        self._running[task.id] = _Running(worker, now, attempt)
        # Where its end was told, only the result was lost with its worker: it is looked up again.
        if task.id in self._open:
            self._watch(TaskStarted(task, worker, now, attempt))

    def _end(self, task: Task, future: Future[Ended]) -> None:
        """Tell a task's end, unless it was not its own."""
        if task.id not in self._open:
            return  # cancelled
        try:
            ended: Ended = future.result(timeout=_RESULT_SECONDS)
        except TimeoutError:
            self._inbox.put((task, future))  # it was lost with its worker, and is looked up again
            return
        except Exception as error:  # whatever Dask, or an errand's arrival, ended in
            ended = self._broken(task, error)
        self._open.remove(task.id)
        if ended.outcome is None:
            self._failed.add(task.id)
            if ended.failure is None:
                return
        else:
            for fetch in self._graph.along[task.id]:
                self._finish(fetch, Ended(ended.worker, Outcome(_ALONG, is_changed=False)))
        self._finish(task, ended)
        if ended.failure is not None and not self._keep_going:
            self._begin_nothing()

    def _finish(self, task: Task, ended: Ended) -> None:
        now = self._now()
        running = self._running.get(task.id)
        if running is None:
            running = _Running(ended.worker, now, is_heard=False)
            self._running[task.id] = running
            self._watch(TaskStarted(task, ended.worker, now))
        started = running.started_seconds
        self._watch(TaskFinished(task, running.worker, started, now, ended.outcome, ended.failure))

    def _broken(self, task: Task, error: Exception) -> Ended:
        """Return the end of a task that has no result."""
        if any(need in self._failed for need in task.needs):
            return Ended("")  # the error is that task's
        if isinstance(error, CancelledError):
            raise UnavailableError(
                "The scheduler is not there any more.",
                hint="Start one, then begin the batch again: it goes on where it was.",
            ) from error
        if isinstance(error, KilledWorker):
            error = SaltflatError(
                f"{task.name}: every worker that tried it died.",
                hint="See whether a worker's memory limit is too low: the nanny tells in its log.",
            )
        running = self._running.get(task.id)
        return Ended(running.worker if running else "", failure=failure_of(error))

    def _begin_nothing(self) -> None:
        """Let what runs end, and nothing else begin."""
        waiting = [name for name in self._open if name not in self._running]
        self._client.cancel([self._futures[name] for name in waiting], force=True)
        self._open.difference_update(waiting)
