"""How far the whole is, and how long the rest takes: sums with a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from converter.cli.totals import Totals
from converter.events import (
    CONVERT,
    PULL,
    Event,
    Note,
    StepAdvanced,
    StepFinished,
    StepStarted,
    WorkPlanned,
)


@dataclass
class Clock:
    """A clock that stands still unless it is set."""

    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


def totals(*events: Event, clock: Clock | None = None) -> Totals:
    found = Totals(clock or Clock())
    for event in events:
        found.take(event)
    return found


PLANNED = WorkPlanned(2, 1000)


def test_both_phases_count_where_blobs_are_pulled() -> None:
    clock = Clock()
    found = totals(PLANNED, StepStarted("1", 600, PULL), StepStarted("2", 400, PULL), clock=clock)
    assert (found.layers, found.planned_bytes, found.share) == (2, 1000, 0.0)
    found.take(StepAdvanced("1", 300, PULL))
    found.take(StepAdvanced("2", 200, PULL))
    assert (found.pulled_bytes, found.converted_bytes, found.share) == (500, 0, 0.25)
    clock.seconds += 10
    assert found.remaining_seconds() == pytest.approx(30)
    found.take(StepFinished("1", minor=True, phase=PULL))
    found.take(StepStarted("1", 600, CONVERT))
    found.take(StepAdvanced("1", 600, CONVERT))
    assert (found.pulled_bytes, found.converted_bytes, found.share) == (800, 600, 0.7)
    for step, phase in (("2", PULL), ("1", CONVERT)):
        found.take(StepFinished(step, phase=phase))
    found.take(StepStarted("2", 400, CONVERT))
    found.take(StepFinished("2", phase=CONVERT))
    assert found.share == 1.0
    assert found.remaining_seconds() == 0


def test_one_phase_counts_where_they_are_not() -> None:
    found = totals(PLANNED, StepStarted("1", 600, CONVERT), StepAdvanced("1", 500, CONVERT))
    assert (found.pulls, found.share) == (False, 0.5)


def test_what_was_there_already_is_done_but_says_nothing_of_the_pace() -> None:
    clock = Clock()
    found = totals(
        PLANNED,
        StepStarted("1", 600, PULL),
        StepFinished("1", "already here", minor=True, phase=PULL),
        StepStarted("2", 400, PULL),
        clock=clock,
    )
    clock.seconds += 20
    assert found.share == 0.3
    assert found.remaining_seconds() is None
    found.take(StepAdvanced("2", 200, PULL))
    assert found.remaining_seconds() == pytest.approx(1200 / (200 / 20))


def test_a_pace_needs_a_moment() -> None:
    clock = Clock()
    found = totals(PLANNED, StepStarted("1", 600, PULL), StepAdvanced("1", 300, PULL), clock=clock)
    assert found.remaining_seconds() is None
    clock.seconds += 1
    assert found.remaining_seconds() is not None


def test_nothing_moves_it_that_was_not_planned() -> None:
    events = [
        StepStarted("1", 600, CONVERT),
        StepFinished("1", "cached", minor=True, phase=CONVERT),
        StepStarted("boot image", 5),
        StepAdvanced("boot image", 3),
        Note("x"),
    ]
    assert totals(*events).share == 0.0
    assert totals(*events, PLANNED, *events[2:]).share == 0.0
    assert totals(PLANNED, StepAdvanced("never started", 5, PULL)).share == 0.0
    assert totals().remaining_seconds() is None


def test_lies_do_not_lead_beyond_the_end_or_back() -> None:
    found = totals(WorkPlanned(1, 100), StepStarted("1", 100, CONVERT))
    shares = []
    for done in (50, 20, 900, 30):
        found.take(StepAdvanced("1", done, CONVERT))
        shares.append(found.share)
    assert shares == [0.5, 0.5, 1.0, 1.0]


def test_plans_add_up() -> None:
    found = totals(PLANNED, WorkPlanned(3, 500))
    assert (found.layers, found.planned_bytes) == (5, 1500)
