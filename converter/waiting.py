"""Waiting for other threads without missing a signal. Owns a main thread's wait for a future.

Python acts on a signal in the main thread, between two of its instructions, and what ends a wait is
that the signal comes during it. One that comes in the instant before, when the thread is on its way
into the wait, is acted on after it: Ctrl-C would be taken and do nothing until somebody else is
done, which may be a registry's time-out away.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TypeVar

LOOK_SECONDS = 1.0  # after so long a wait is begun anew, signals in between
_Result = TypeVar("_Result")


def result_of(future: Future[_Result]) -> _Result:
    """Return the result of `future`, or raise what it raised, when it is done."""
    while not future.done():
        wait((future,), timeout=LOOK_SECONDS)
    return future.result()
