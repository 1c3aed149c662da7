"""The events of a call as an iterator. Owns the thread that the call runs in, nothing of events."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Generic, Self, TypeVar

from converter.events import Event, Monitor

_Result = TypeVar("_Result")
_MOST_WAITING = 256  # events not taken yet; then the call waits for whoever iterates


class Watched(Generic[_Result]):
    """A call to be watched: iterate over its events, then take its result.

    A context manager: leaving it before the call has ended stops the call at its next event, as
    Ctrl-C stops a command, and waits until it has. What it finished before stays. Without the block
    the call begins with the first iteration, and an iteration that is left early lets it go on.
    """

    def __init__(self, call: Callable[[Monitor], _Result]) -> None:
        """Make ready to call `call` in a thread of its own, with a monitor of ours."""
        self._call = call
        self._events: deque[Event] = deque()
        self._change = threading.Condition()
        self._takers = 0  # iterations, and the block: while there are any, events wait for them
        self._begun = False
        self._ended = False
        self._stopped = False
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="watched", daemon=True)

    def __enter__(self) -> Self:
        self._arrive()
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._change:
            self._stopped = True
        self._leave()
        self._thread.join()

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they come, until the call has ended, well or not. For one thread."""
        self._arrive()
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._events or self._ended or self._stopped)
                    if not self._events:
                        return
                    event = self._events.popleft()
                    self._change.notify_all()
                yield event
        finally:
            self._leave()

    def result(self) -> _Result:
        """Return what the call returned, passing over events that nobody has taken.

        Raises what the call raised; CancelledError if the block around it was left before its end.
        """
        for _event in self:
            pass
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # the call has returned it

    def _arrive(self) -> None:
        with self._change:
            self._takers += 1
            if not self._begun:
                self._begun = True
                self._thread.start()

    def _leave(self) -> None:
        with self._change:
            self._takers -= 1
            self._change.notify_all()

    def _work(self) -> None:
        try:
            self._result = self._call(self._monitor)
        except BaseException as error:
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _monitor(self, event: Event) -> None:
        with self._change:
            self._change.wait_for(
                lambda: len(self._events) < _MOST_WAITING or self._stopped or not self._takers
            )
            if self._stopped:
                raise CancelledError
            # Nobody may come back for what is too much: a thread that waited for that would keep
            # the program from ending.
            if len(self._events) < _MOST_WAITING:
                self._events.append(event)
                self._change.notify_all()


def watch(call: Callable[[Monitor], _Result]) -> Watched[_Result]:
    """Return `call`, to be watched: it gets a monitor, and what that hears is yielded.

    with converter.watch(lambda monitor: converter.convert(name, monitor=monitor)) as work:
        for event in work:
            print(event)
    print(work.result().chain.disks)
    """
    return Watched(call)
