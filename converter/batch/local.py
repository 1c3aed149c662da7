"""Plans carried out on this host: processes for what computes, threads for what waits.

Owns which worker has which task, and that none is left behind. A process that dies takes its task
along; the task is begun once more in another, for whatever it had finished is in the store.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

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
from converter.batch.failure import Failure, failure_of
from converter.batch.orders import Order
from converter.batch.plan import Plan, Task, TaskKind
from converter.batch.ready import Ready
from converter.batch.work import Workplace, perform
from converter.batch.worker import ENDING, Advanced, Ended, Message, Teller, Warned, serve
from converter.errors import SaltflatError
from converter.events import Event
from converter.store.layout import Store
from converter.waiting import LOOK_SECONDS

_ATTEMPTS = 2  # of a task whose worker dies
_END_SECONDS = 30.0  # for a worker to take back what it was doing
_BELL_BYTES = 4096
# What waits for others, or is done at once, needs no process: threads do it beside each other.
_WAITING, _COMPUTING = "waiting", ""
_LANES = {TaskKind.FETCH.value: _WAITING, TaskKind.RECORD.value: _WAITING}


@dataclass(frozen=True, slots=True)
class _Doing:
    """A task under way."""

    task: Task
    worker: str
    started_seconds: float
    attempt: int


@dataclass(slots=True, eq=False)
class _Worker:
    """A process and our end of its line."""

    name: str
    process: BaseProcess
    connection: Connection[Order, Message]
    doing: _Doing | None = None


class LocalExecutor:
    """Carries plans out in `jobs` processes, and fetches `fetches` blobs at a time beside them.

    `workplace` has the sources that the plan's maker has opened already. All orders are for
    `store`, which is in use until the end: the processes count on that. `clock` gives seconds.
    """

    def __init__(
        self,
        jobs: int,
        *,
        fetches: int,
        workplace: Workplace,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._fetches = fetches
        self._workplace = workplace
        self._clock = clock

    @property
    def workers(self) -> int:
        """How many tasks are computed side by side, at most."""
        return self._jobs

    @property
    def shares_store(self) -> bool:
        """Whether workers have the batch's own store: processes of one host do."""
        return True

    def run(self, plan: Plan, order_of: OrderOf, watch: WatchTasks, *, keep_going: bool) -> None:
        """Do all tasks of `plan`; see `Executor`."""
        with _Crew(self._jobs, self._fetches, self._workplace, self._store) as crew:
            if any(task.kind.value not in _LANES for task in plan.tasks):
                crew.prepare()
            run = _Run(crew, Ready(plan.tasks, _LANES), order_of, watch, self._clock)
            run.go_on(keep_going=keep_going)


class _Crew:
    """Processes and threads, and what is heard of them."""

    def __init__(self, jobs: int, fetches: int, workplace: Workplace, store: Store) -> None:
        self._jobs = jobs
        self._store = store
        self._workplace = workplace
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([serve.__module__])
        self._workers: list[_Worker] = []
        self._started = 0
        self._threads = ThreadPoolExecutor(fetches, thread_name_prefix="fetch")
        self._idle_threads = [f"fetch {number}" for number in range(fetches, 0, -1)]
        self._waiting = 0  # tasks that threads have
        self._said: queue.SimpleQueue[tuple[_Doing, Message]] = queue.SimpleQueue()
        self._bell, self._rope = os.pipe()  # who has put something into the queue pulls
        os.set_blocking(self._rope, False)
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        if kind is not None:
            self._workplace.hang_up()
        for worker in self._workers:
            if worker.doing is None:
                worker.connection.close()  # it reads that nothing more will come
            else:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_END_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._threads.shutdown(cancel_futures=True)
        os.close(self._bell)
        os.close(self._rope)

    def prepare(self) -> None:
        """Let modules be loaded for processes that will be wanted, while others do what waits.

        Without it the first process to be started takes as long as they do, and nobody listens.
        """
        forkserver.ensure_running()

    @property
    def is_busy(self) -> bool:
        """Whether anybody has a task."""
        return self._waiting > 0 or any(worker.doing for worker in self._workers)

    def idle_thread(self) -> str | None:
        """Return the name of a thread without a task."""
        return self._idle_threads[-1] if self._idle_threads else None

    def do_in_thread(self, doing: _Doing, order: Order) -> None:
        """Let the idle thread have a task."""
        self._idle_threads.pop()
        self._waiting += 1
        self._threads.submit(self._perform, doing, order)

    def idle_worker(self) -> _Worker | None:
        """Return a process without a task, which may have to be started."""
        for worker in self._workers:
            if worker.doing is None:
                return worker
        return self._start() if len(self._workers) < self._jobs else None

    def hear(self) -> list[tuple[_Doing, Message | _Died]]:
        """Wait until somebody says something, or dies; return what. Now and then it is nothing."""
        lines = {worker.connection: worker for worker in self._workers}
        heard: list[tuple[_Doing, Message | _Died]] = []
        for line in wait([*lines, self._bell], LOOK_SECONDS):
            worker = lines.get(line)  # type: ignore[call-overload]  # the bell is no key, either
            if worker is None:
                os.read(self._bell, _BELL_BYTES)
                heard += self._hear_threads()
            elif (said := self._hear_worker(worker)) is not None:
                heard.append(said)
        return heard

    def _hear_threads(self) -> Iterator[tuple[_Doing, Message]]:
        while not self._said.empty():
            doing, message = self._said.get()
            if isinstance(message, Ended):
                self._idle_threads.append(doing.worker)
                self._waiting -= 1
            yield doing, message

    def _hear_worker(self, worker: _Worker) -> tuple[_Doing, Message | _Died] | None:
        doing = worker.doing
        message: Message | _Died
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
            message = _Died(worker.process.exitcode or 0)
        if isinstance(message, Ended):
            worker.doing = None
        return None if doing is None else (doing, message)

    def _start(self) -> _Worker:
        self._started += 1
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve,
            args=(theirs, self._store.root),
            name=f"worker {self._started}",
            daemon=True,
        )
        worker = _Worker(process.name, process, ours)
        # A new process has the blocked signals of whoever starts it, and no handler yet.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process.start()
            self._workers.append(worker)  # now there is somebody to end it
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return worker

    def _perform(self, doing: _Doing, order: Order) -> None:
        teller = Teller(lambda message: self._say(doing, message))

        def monitor(event: Event) -> None:
            if self._stopping.is_set():
                raise CancelledError
            teller.tell(event)

        try:
            ended = Ended(perform(order, monitor, self._workplace), None)
        except CancelledError:
            return
        except Exception as error:  # it is told to whoever waits; others may fare better
            ended = Ended(None, failure_of(error))
        self._say(doing, ended)

    def _say(self, doing: _Doing, message: Message) -> None:
        self._said.put((doing, message))
        with suppress(BlockingIOError):  # so many have pulled that it rings anyway
            os.write(self._rope, b"!")


@dataclass(frozen=True, slots=True)
class _Died:
    """What is heard of a process that is gone: how it ended, as `Process.exitcode` has it."""

    exit_code: int

    def __str__(self) -> str:
        if self.exit_code < 0:
            return f"was ended by {signal.Signals(-self.exit_code).name}"
        return f"ended with code {self.exit_code}"


class _Run:
    """One plan under way."""

    def __init__(
        self,
        crew: _Crew,
        ready: Ready,
        order_of: OrderOf,
        watch: WatchTasks,
        clock: Callable[[], float],
    ) -> None:
        self._crew = crew
        self._ready = ready
        self._order_of = order_of
        self._watch = watch
        self._clock = clock
        self._began = clock()
        self._attempts: dict[str, int] = {}
        self._is_ending = False

    def go_on(self, *, keep_going: bool) -> None:
        """Do what there is to do, until nothing is left that can be done."""
        while True:
            self._begin_all()
            if not self._crew.is_busy:
                return
            for doing, message in self._crew.hear():
                failed = self._take(doing, message)
                if failed and not keep_going:
                    self._is_ending = True
                    self._ready.drop_all()

    def _begin_all(self) -> None:
        while (thread := self._crew.idle_thread()) is not None:
            task = self._ready.take(_WAITING)
            if task is None:
                break
            self._crew.do_in_thread(self._begin(task, thread), self._order_of(task))
        while (task := self._ready.take(_COMPUTING)) is not None:
            worker = self._crew.idle_worker()
            if worker is None:
                self._ready.put(task)
                break
            worker.doing = self._begin(task, worker.name)
            with suppress(OSError):  # it is dead, which its line says to whoever listens
                worker.connection.send(self._order_of(task))

    def _begin(self, task: Task, worker: str) -> _Doing:
        attempt = self._attempts[task.id] = self._attempts.get(task.id, 0) + 1
        doing = _Doing(task, worker, self._now(), attempt)
        self._watch(TaskStarted(task, worker, doing.started_seconds, attempt))
        return doing

    def _take(self, doing: _Doing, message: Message | _Died) -> bool:
        """Pass on what was heard of a task; tell whether the task has failed."""
        task = doing.task
        if isinstance(message, Advanced):
            self._watch(TaskAdvanced(task, message.done_bytes, message.total_bytes))
            return False
        if isinstance(message, Warned):
            self._watch(Said(f"{task.name}: {message.text}", is_warning=True))
            return False
        if isinstance(message, Ended):
            self._finish(doing, message.outcome, message.failure)
            if message.failure is None:
                self._ready.done(task)
            return message.failure is not None
        if doing.attempt < _ATTEMPTS and not self._is_ending:
            self._watch(
                TaskLost(task, doing.worker, doing.started_seconds, self._now(), str(message))
            )
            self._ready.put(task)
            return False
        self._finish(doing, None, failure_of(_died(doing, message)))
        return True

    def _finish(self, doing: _Doing, outcome: Outcome | None, failure: Failure | None) -> None:
        self._watch(
            TaskFinished(
                doing.task, doing.worker, doing.started_seconds, self._now(), outcome, failure
            )
        )

    def _now(self) -> float:
        return self._clock() - self._began


def _died(doing: _Doing, end: _Died) -> SaltflatError:
    return SaltflatError(
        f"The process that worked on {doing.task.name} {end}, at attempt {doing.attempt}.",
        expected="it to end with a result",
        hint="The system's log may say who ended it; where memory is short, try fewer --jobs.",
    )
