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
from converter.batch.cluster.meeting import borrow, is_lent, lend, made_elsewhere
from converter.batch.events import Outcome
from converter.batch.failure import Failure, failure_of
from converter.batch.orders import CacheOrder, Order, RecordOrder
from converter.batch.progress import Progress
from converter.batch.work import Workplace, cache_repository, perform
from converter.errors import UnavailableError
from converter.events import Event, Note
from converter.image.model import Descriptor
from converter.store.layout import Store
from converter.store.locks import using

_TELL_SECONDS = 0.5  # between two signs of progress of one task: they pass the scheduler
_IN_CACHE = "in the cache"
_REST_SECONDS = 0.05  # between two looks whether anything still runs


class Word(Enum):
    """What a worker tells of a task while it runs."""

    STARTED = "started"
    ADVANCED = "advanced"
    GAVE_UP = "gave up"  # for now: a registry did not answer, and Dask may try it again
    SAID = "said"


class Message(TypedDict):
    """A word, in values that Dask's event log takes: `text` is a reason or a warning.

    The log puts the worker's address into "worker", so its name is in `who`.
    """

    word: str
    task: str
    who: str
    text: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Errand:
    """A task's order, for any worker; `task` is its id, `topic` where to tell of it.

    Where all share a store, `mark` is what a worker must see in it. Where each has its own, there
    is a cache `meeting`: the worker brings the blobs `borrowed` from there, and leaves `lent`.
    `links` are the keys of those that the task is to make.
    """

    task: str
    topic: str
    order: Order
    version: str
    mark: str
    meeting: CacheOrder | None = None
    borrowed: tuple[Descriptor, ...] = ()
    lent: tuple[Descriptor, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How an errand ended: with an outcome or a failure; `address` is Dask's of the worker."""

    worker: str
    address: str = ""
    outcome: Outcome | None = None
    failure: Failure | None = None


def run_errand(errand: Errand) -> Ended:
    """Carry an errand out.

    Raises UnavailableError, for Dask to try it again; any other failure is in the result, for a
    second try would end in it too.
    """
    worker = get_worker()
    telling = _Telling(errand, worker)
    telling.tell(Word.STARTED)
    with _at_work(errand.topic) as workplace:
        try:
            outcome = _carried_out(errand, telling, workplace)
        except UnavailableError as error:
            telling.tell(Word.GAVE_UP, text=error.what)
            raise
        except CancelledError:
            raise
        except Exception as error:  # it is told to whoever waits; the next errand may fare better
            return Ended(telling.worker, worker.address, failure=failure_of(error))
    return Ended(telling.worker, worker.address, outcome)


async def rest(topic: str, seconds: float) -> None:
    """Wait, as a worker, until no errand of `topic` runs here, or so many `seconds` are over."""
    deadline = time.monotonic() + seconds
    while _is_busy(topic) and time.monotonic() < deadline:
        await asyncio.sleep(_REST_SECONDS)


@dataclass(slots=True)
class _Desk:
    """What this process keeps of one batch, and how many of its errands it is at."""

    closing: ExitStack
    workplace: Workplace
    errands: int = 0


_desks: dict[str, _Desk] = {}
_guard = threading.Lock()  # a worker may have several threads


@contextmanager
def _at_work(topic: str) -> Iterator[Workplace]:
    """Yield the workplace of a batch; those of others go when nobody is at them."""
    with _guard:
        for other in [name for name, desk in _desks.items() if name != topic and not desk.errands]:
            _desks.pop(other).closing.close()
        if topic not in _desks:
            closing = ExitStack()
            _desks[topic] = _Desk(closing, closing.enter_context(Workplace()))
        desk = _desks[topic]
        desk.errands += 1
    try:
        yield desk.workplace
    finally:
        with _guard:
            desk.errands -= 1


def _is_busy(topic: str) -> bool:
    desk = _desks.get(topic)
    return desk is not None and desk.errands > 0


def _carried_out(errand: Errand, telling: _Telling, workplace: Workplace) -> Outcome:
    """Do what the order says in this worker's store."""
    stores.check_version({telling.worker: __version__}, errand.version)
    order = errand.order
    if errand.mark and not stores.sees(order.store, errand.mark):
        raise stores.not_shared(order.store)
    store = Store(stores.worker_store(order.store))
    order = replace(order, store=store.root)
    with using(store, monitor=telling, for_a_user=bool(errand.mark)):
        if errand.meeting is None:
            return perform(order, telling, workplace)
        return _met(errand, order, telling, workplace, store)


def _met(
    errand: Errand, order: Order, telling: _Telling, workplace: Workplace, store: Store
) -> Outcome:
    """Do what the order says in a store of this worker's own, with the cache for all the others."""
    assert errand.meeting is not None, "else there is nobody to meet"
    if isinstance(order, RecordOrder) and order.options.policy.max_disk_bytes is None:
        # Its links are in the cache, and to bring them here costs more than a record is worth.
        return Outcome(_IN_CACHE, is_changed=False)
    repository = cache_repository(errand.meeting, store, workplace)
    if errand.links and (made := made_elsewhere(repository, errand.links, monitor=telling)):
        return Outcome(_IN_CACHE, links=made)  # by a worker that died before it could tell
    if errand.lent and all(is_lent(repository, blob, monitor=telling) for blob in errand.lent):
        return Outcome(_IN_CACHE)  # likewise
    borrow(repository, store.blobs, errand.borrowed, monitor=telling)
    outcome = perform(order, telling, workplace)
    for blob in errand.lent:
        lend(repository, store.blobs, blob, monitor=telling)
    return outcome


class _Telling:
    """A monitor that tells the batch, and ends a task that nobody wants any more."""

    def __init__(self, errand: Errand, worker: Worker) -> None:
        self._errand = errand
        self._worker = worker
        self._key = worker.get_current_task()
        self._progress = Progress()
        self._lock = threading.Lock()  # events come from any thread of a conversion
        self._told = time.monotonic()
        self.worker = str(worker.name)

    def tell(
        self, word: Word, *, text: str = "", done_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        """Send a message to whoever listens to the batch's topic."""
        message: Message = {
            "word": word.value,
            "task": self._errand.task,
            "who": self.worker,
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
        with self._lock:
            if isinstance(event, Note):
                if event.warning:
                    self.tell(Word.SAID, text=event.text)
                return
            now = time.monotonic()
            if self._progress.take(event) and now - self._told >= _TELL_SECONDS:
                self._told = now
                done_bytes, total_bytes = self._progress.done_bytes, self._progress.total_bytes
                self.tell(Word.ADVANCED, done_bytes=done_bytes, total_bytes=total_bytes)
