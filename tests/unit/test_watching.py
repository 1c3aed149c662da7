"""A call's events as an iterator: in order, none lost, and who leaves early stops the call."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

import converter
from converter.errors import UsageError
from converter.events import Monitor, Note

COUNT = 1000  # several times what may wait


def _tell(monitor: Monitor) -> str:
    for number in range(COUNT):
        monitor(Note(f"{number}"))
    return "done"


def test_events_come_in_order_and_then_the_result() -> None:
    with converter.watch(_tell) as work:
        texts = [event.text for event in work if isinstance(event, Note)]
    assert texts == [f"{number}" for number in range(COUNT)]
    assert work.result() == "done"
    assert work.result() == "done"


def test_the_result_alone() -> None:
    with converter.watch(_tell) as work:
        assert work.result() == "done"


def test_an_error_ends_the_events_and_is_raised_with_the_result() -> None:
    def fail(monitor: Monitor) -> None:
        monitor(Note("before"))
        raise UsageError("wrong")

    with converter.watch(fail) as work:
        assert list(work) == [Note("before")]
        with pytest.raises(UsageError, match="wrong"):
            work.result()


def test_leaving_early_stops_the_call_and_waits_for_it() -> None:
    ended = threading.Event()

    def endless(monitor: Monitor) -> None:
        try:
            while True:
                monitor(Note("more"))
        finally:
            ended.set()

    with converter.watch(endless) as work:
        assert next(iter(work)) == Note("more")
    assert ended.is_set()
    with pytest.raises(CancelledError):
        work.result()


def test_a_call_waits_for_who_iterates() -> None:
    told: list[int] = []

    def count(monitor: Monitor) -> None:
        for number in range(COUNT):
            monitor(Note(""))
            told.append(number)

    with converter.watch(count) as work:
        for taken, _event in enumerate(work):
            assert len(told) <= taken + 258  # those that wait, the one here, the one on its way
    assert len(told) == COUNT
