"""A worker process: orders in, outcomes out, over one connection. Owns its signals and its end.

It ends when its connection does, when it is sent SIGTERM, and when the process that started it is
gone, however that came about; what it was doing it takes back on the way, as any command does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from converter.batch.events import Outcome
from converter.batch.failure import Failure, failure_of
from converter.batch.orders import Order
from converter.batch.progress import Progress
from converter.batch.work import Workplace, perform
from converter.events import Event, Note
from converter.store.layout import Store
from converter.store.locks import using

# What ends a command. Whoever starts a worker blocks them until it has handlers.
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class Advanced:
    """The order's work so far."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Warned:
    """What a person should know of the order's work."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The order is carried out, or has failed."""

    outcome: Outcome | None
    failure: Failure | None


Message = Advanced | Warned | Ended


def serve(connection: Connection[Message, Order], store: Path) -> None:
    """Carry out the orders that come over `connection`, until it is closed.

    All are for the store at `store`, which whoever sends them uses all the while.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal: whoever started us decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    with suppress(KeyboardInterrupt, EOFError, OSError), Workplace() as workplace:
        # Blocked since before we were: there was nobody to take them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        threading.Thread(target=_follow_parent, daemon=True).start()
        with using(Store(store), for_a_user=True):
            while True:
                order = connection.recv()
                connection.send(_carry_out(order, Teller(connection.send), workplace))


def _carry_out(order: Order, teller: Teller, workplace: Workplace) -> Ended:
    try:
        return Ended(perform(order, teller.tell, workplace), None)
    except Exception as error:  # it is told to whoever waits; the next order may fare better
        return Ended(None, failure_of(error))


class Teller:
    """Tells how an order's work goes; `say` is called by one of its threads at a time."""

    def __init__(self, say: Callable[[Message], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._progress = Progress()

    def tell(self, event: Event) -> None:
        """Be the work's monitor, for any of its threads."""
        with self._lock:
            if isinstance(event, Note):
                if event.warning:
                    self._say(Warned(event.text))
            elif self._progress.take(event):
                self._say(Advanced(self._progress.done_bytes, self._progress.total_bytes))


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
