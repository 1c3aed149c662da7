"""A task on its way to a worker and back: what the worker is told, does, and tells meanwhile.

`run_errand` runs in the worker's process, in one of its threads. It needs nothing of whoever sent
it but the errand, so it may run again, there or elsewhere, when a worker dies.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypedDict

from distributed import Worker, get_worker

from converter import __version__
from converter.batch.cluster import stores
from converter.batch.cluster.lending import borrow, lend
from converter.batch.events import Outcome
from converter.batch.failure import Failure, failure_of
from converter.batch.orders import CacheOrder, Order
from converter.batch.work import open_repository, perform
from converter.errors import UnavailableError
from converter.events import Event, Note, StepAdvanced, StepStarted
from converter.image.model import Descriptor
from converter.store.layout import Store

_TELL_SECONDS = 0.5  # between two signs of progress of one task
_REST_SECONDS = 0.05  # between two looks whether anything still runs


class Word(Enum):
    """What a worker tells of a task while it runs."""

    STARTED = "started"
    ADVANCED = "advanced"
    GAVE_UP = "gave up"  # for now: a registry did not answer, and Dask may try it again
    SAID = "said"


class Message(TypedDict):
    """A word, in values that Dask's event log takes: `text` is a reason or a warning."""

    word: str
    task: str
    worker: str
    text: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Errand:
    """A task's orders, for any worker; `task` is its id, `topic` where to tell of it.

    The last order is the task's own, those before it bring what it stands on. Where all share a
    store, `mark` is what a worker must see in it. Where each has its own, `mark` is "": the worker
    first brings the blobs `borrowed` from `meeting`, and leaves `lent` there.
    """

    task: str
    topic: str
    orders: tuple[Order, ...]
    version: str
    mark: str
    meeting: CacheOrder | None = None
    borrowed: tuple[Descriptor, ...] = ()
    lent: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How an errand ended: with an outcome, a failure, or neither, if one that it needs failed."""

    worker: str
    outcome: Outcome | None = None
    failure: Failure | None = None


def run_errand(errand: Errand, *needs: Ended) -> Ended:
    """Carry an errand out, unless something that it `needs` has failed.

    Raises UnavailableError, for Dask to try it again; any other failure is in the result, for a
    second try would end in it too.
    """
    telling = _Telling(errand, get_worker())
    if any(need.outcome is None for need in needs):
        return Ended(telling.worker)
    telling.tell(Word.STARTED)
    with _under_way(errand):
        try:
            outcome = _carried_out(errand, telling)
        except UnavailableError as error:
            telling.tell(Word.GAVE_UP, text=error.what)
            raise
        except CancelledError:
            raise
        except Exception as error:
            return Ended(telling.worker, failure=failure_of(error))
    return Ended(telling.worker, outcome)


async def rest(topic: str, seconds: float) -> bool:
    """Wait, as a worker, until no errand of `topic` runs here; False if that takes too long."""
    deadline = time.monotonic() + seconds
    while _running.get(topic) and time.monotonic() < deadline:
        await asyncio.sleep(_REST_SECONDS)
    return not _running.get(topic)


# What runs in this process: how many errands by topic. A worker may have several threads.
_running: dict[str, int] = {}
_guard = threading.Lock()


@contextmanager
def _under_way(errand: Errand) -> Iterator[None]:
    with _guard:
        _running[errand.topic] = _running.get(errand.topic, 0) + 1
    try:
        yield
    finally:
        with _guard:
            _running[errand.topic] -= 1
            if not _running[errand.topic]:
                del _running[errand.topic]


def _carried_out(errand: Errand, telling: _Telling) -> Outcome:
    """Do what the orders say in this worker's store."""
    stores.check_version({telling.worker: __version__}, errand.version)
    with ExitStack() as opened:
        repository = None
        if errand.meeting is not None and (errand.borrowed or errand.lent):
            repository = opened.enter_context(open_repository(errand.meeting))
        outcome = Outcome(is_changed=False)
        for order in errand.orders:
            if errand.mark and not stores.sees(order.store, errand.mark):
                raise stores.not_shared(order.store)
            own = stores.worker_store(order.store)
            blobs = Store(own).blobs
            if repository is not None:
                borrow(repository, blobs, errand.borrowed, monitor=telling)
            outcome = _sum(outcome, perform(replace(order, store=own), telling))
            if repository is not None:
                for blob in errand.lent:
                    lend(repository, blobs, blob, monitor=telling)
    return outcome


def _sum(before: Outcome, last: Outcome) -> Outcome:
    """Return the last order's outcome, with the bytes that those before it took."""
    return replace(
        last,
        fetched_bytes=before.fetched_bytes + last.fetched_bytes,
        written_bytes=before.written_bytes + last.written_bytes,
        sent_bytes=before.sent_bytes + last.sent_bytes,
    )


class _Telling:
    """A monitor that tells the batch, and ends a task that nobody wants any more."""

    def __init__(self, errand: Errand, worker: Worker) -> None:
        self._errand = errand
        self._worker = worker
        self._key = worker.get_current_task()
        self._total_bytes = 0
        self._told = time.monotonic()
        self.worker = str(worker.name)

    def tell(
        self, word: Word, *, text: str = "", done_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        """Send a message to whoever listens to the batch's topic."""
        message: Message = {
            "word": word.value,
            "task": self._errand.task,
            "worker": self.worker,
            "text": text,
            "done_bytes": done_bytes,
            "total_bytes": total_bytes,
        }
        self._worker.log_event(self._errand.topic, message)

    def __call__(self, event: Event) -> None:
        # Dask lets go of a task that was cancelled, or whose client has gone, but stops no thread.
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise CancelledError
        if isinstance(event, Note):
            if event.warning:
                self.tell(Word.SAID, text=event.text)
        elif isinstance(event, StepStarted):
            self._total_bytes = event.total_bytes or 0
        elif isinstance(event, StepAdvanced):
            now = time.monotonic()
            if now - self._told >= _TELL_SECONDS:
                self._told = now
                done_bytes, total_bytes = event.done_bytes, self._total_bytes
                self.tell(Word.ADVANCED, done_bytes=done_bytes, total_bytes=total_bytes)
