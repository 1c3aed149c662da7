"""A batch on a terminal and in a log, and how long it may still take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from converter.batch.events import (
    BatchEvent,
    BatchPlanned,
    ImageFinished,
    ImageState,
    Outcome,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.failure import Failure
from converter.batch.plan import TaskKind
from converter.batch.planning import make_plan
from converter.cli.batch_bars import BatchBars
from converter.cli.batch_progress import PlainBatch
from converter.cli.batch_totals import BatchTotals
from tests.unit.batch.test_planning import image

PLAN = make_plan([image("a", "b"), image("c", "d")])  # fetches of 500 and conversions of 2000 each
FIRST = next(task for task in PLAN.tasks if task.kind is TaskKind.CONVERT)
FETCHES = [task for task in PLAN.tasks if task.kind is TaskKind.FETCH]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(number: int, failure: Failure | None = None) -> ImageFinished:
    state = ImageState.FAILED if failure else ImageState.DONE
    name = PLAN.images[number].reference
    return ImageFinished(number, name, "sha256:0", "linux/amd64", state, 9.0, failure)


def begin() -> list[BatchEvent]:
    return [BatchPlanned(PLAN, 2), TaskStarted(FIRST, "worker 1", 0.0)]


def test_the_time_that_is_left_follows_the_work_and_not_the_images() -> None:
    clock = Clock()
    totals = BatchTotals(clock)
    for event in begin():
        totals.take(event)
    assert (totals.share, totals.remaining_seconds()) == (0.0, None)
    clock.now += 10
    for fetch in FETCHES[:2]:
        totals.take(TaskFinished(fetch, "fetch 1", 0.0, 5.0, Outcome(fetched_bytes=1000)))
    totals.take(TaskAdvanced(FIRST, 500, 1000))
    assert totals.share == pytest.approx((500 + 500 + 2000 / 2) / 6000)
    assert totals.remaining_seconds() == pytest.approx(20)
    assert totals.line() == "0 of 2 images, 33% of the work, 0:20 left"


def test_a_log_has_a_line_for_each_image_and_a_sign_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    plain = PlainBatch(clock=clock)
    for event in begin():
        plain.show(event)
    for done in (100, 200, 300):
        clock.now += 6
        plain.show(TaskAdvanced(FIRST, done, 1000))
    plain.show(TaskLost(FIRST, "worker 1", 0.0, 18.0, "died"))
    plain.show(ended(0))
    plain.show(ended(1, Failure("integrity", 5, "It is broken.")))
    assert capsys.readouterr().err.splitlines() == [
        "2 images: 4 blobs (0.0 MB) to fetch, 4 of 4 links to make, 2 at a time",
        "0 of 2 images, 7% of the work, 2:48 left",
        f"Warning: {FIRST.name}: its worker died; it is begun anew",
        "[1/2] a-b (linux/amd64): done",
        "[2/2] c-d (linux/amd64): failed: It is broken.",
    ]


def test_a_terminal_has_a_bar_for_each_task_and_one_for_all() -> None:
    clock = Clock()
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None)
    bars = BatchBars(clock=clock, console=console)
    bars.looked_up(2)
    for event in begin():
        bars.show(event)
    clock.now += 10
    bars.show(TaskAdvanced(FIRST, 500, 1000))
    bars.show(ended(0))
    bars.refresh()
    bars.close()
    text = shown.getvalue()
    assert "a-b (linux/amd64): done" in text
    last = [line for line in text.splitlines() if "left" in line][-1]
    assert "1 of 2 images" in last
    assert "0:50 left" in last
    assert any("converting" in line and FIRST.name in line for line in text.splitlines())
