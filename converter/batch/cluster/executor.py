"""The client's side: a plan given to Dask task by task, and what comes back turned into events.

A task is submitted when those that it needs have ended, with its rank as priority; which worker
gets it and when, second tries, dead workers and cancellation are Dask's. It is not given the plan
as a graph, for a graph's order is made of results: where one was lost with its worker, or with the
last worker that had a copy, tasks of others below it would begin again.

What is told of running tasks comes by Dask's event log. All times are this host's, at which a
message arrived: workers' clocks may differ.
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
from converter.batch.plan import Plan, Task, TaskKind
from converter.batch.ready import Ready
from converter.errors import SaltflatError, UnavailableError
from converter.store.layout import Store

_SECOND_TRIES = 1  # of what a registry let down; Dask may choose another worker for it
_LOOK_SECONDS = 5.0
_NOBODY_SECONDS = 120.0  # without any worker; one that is restarted is there within seconds
_RESULT_SECONDS = 30.0
_REST_SECONDS = 30.0
_DIED = "died"
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


class _Run:
    """One plan on its way: what is submitted and has not ended, and what was told of it."""

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
        self._ready = Ready(graph.tasks())
        self._inbox: SimpleQueue[Message | tuple[Task, Future[Ended]]] = SimpleQueue()
        self._open: dict[str, tuple[Task, Future[Ended]]] = {}
        self._running: dict[str, _Running] = {}
        self._homes: dict[str, str] = {}  # which worker has made a task's links

    def __enter__(self) -> Self:
        self._client.subscribe_topic(self._graph.topic, lambda event: self._inbox.put(event[1]))
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
                self._cancel(list(self._open))
                # Errands end at their next sign of progress; who does not answer has died.
                self._client.run(rest, self._graph.topic, _REST_SECONDS, on_error="ignore")

    def wait(self) -> None:
        """Have all tasks done that can be, and tell what happens meanwhile."""
        seen = time.monotonic()
        self._submit()
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
                self._submit()
            else:
                self._hear(item)

    def _submit(self) -> None:
        """Give Dask every task whose needs are met."""
        while (task := self._ready.take()) is not None:
            # With a store of its own a worker has to fetch what it did not make itself. Others may
            # take the task all the same, when they have nothing to do.
            homes = {self._homes[need] for need in task.needs if need in self._homes}
            future = self._client.submit(
                run_errand,
                self._graph.errand(task),
                key=self._graph.key(task),
                priority=task.rank_bytes,
                retries=_SECOND_TRIES,
                workers=sorted(homes) or None,
                allow_other_workers=bool(homes),
                pure=False,
            )
            self._open[task.id] = task, future
            future.add_done_callback(lambda done, task=task: self._inbox.put((task, done)))

    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _hear(self, message: Message) -> None:
        word = Word(message["word"])
        if message["task"] not in self._open:
            return  # its end is known: this comes late, or of a worker that was taken for dead
        task, _future = self._open[message["task"]]
        running = self._running.get(task.id)
        if word is Word.SAID:
            self._watch(Said(f"{task.name}: {message['text']}", is_warning=True))
        elif word is Word.STARTED:
            self._start(task, message["who"])
        elif running is None:
            return
        elif word is Word.GAVE_UP:
            running.gave_up = f"gave up: {message['text'].rstrip('.')}"
        else:
            self._watch(TaskAdvanced(task, message["done_bytes"], message["total_bytes"]))

    def _start(self, task: Task, worker: str) -> None:
        """Tell that a worker begins, and before it that another one is lost, if one was."""
        before = self._running.get(task.id)
        now = self._now()
        if before is not None:
            reason = before.gave_up or _DIED
            self._watch(TaskLost(task, before.worker, before.started_seconds, now, reason))
        attempt = 1 if before is None else before.attempt + 1
        self._running[task.id] = _Running(worker, now, attempt)
        self._watch(TaskStarted(task, worker, now, attempt))

    def _end(self, task: Task, future: Future[Ended]) -> None:
        """Tell a task's end, and let what needs it be next."""
        if task.id not in self._open:
            return  # cancelled
        try:
            ended: Ended = future.result(timeout=_RESULT_SECONDS)
        except TimeoutError:
            self._inbox.put((task, future))  # it was lost with its worker, and is done again
            return
        except Exception as error:  # whatever Dask, or an errand's arrival, ended in
            ended = self._broken(task, error)
        del self._open[task.id]
        if ended.failure is None:
            for fetch in self._graph.along[task.id]:
                along = Ended(ended.worker, outcome=Outcome(_ALONG, is_changed=False))
                self._finish(fetch, along)
        self._finish(task, ended)
        if ended.failure is None:
            if task.kind is TaskKind.CONVERT and not self._graph.shares_store:
                self._homes[task.id] = ended.address
            self._ready.done(task)
        elif not self._keep_going:
            self._ready.drop_all()
            self._cancel([name for name in self._open if name not in self._running])

    def _finish(self, task: Task, ended: Ended) -> None:
        now = self._now()
        running = self._running.pop(task.id, None)
        if running is None:  # it was over before its beginning was told
            running = _Running(ended.worker, now)
            self._watch(TaskStarted(task, ended.worker, now))
        self._watch(
            TaskFinished(
                task, running.worker, running.started_seconds, now, ended.outcome, ended.failure
            )
        )

    def _broken(self, task: Task, error: Exception) -> Ended:
        """Return the end of a task that has no result."""
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

    def _cancel(self, names: list[str]) -> None:
        self._client.cancel([self._open.pop(name)[1] for name in names], force=True)
