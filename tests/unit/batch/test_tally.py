"""What the ends of tasks mean for images, and the exit code of all together."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from converter.batch.events import ImageState, Outcome, TaskFinished, TaskLost
from converter.batch.failure import Failure, failure_of, worst_exit_code
from converter.batch.plan import Plan, TaskKind
from converter.batch.planning import make_plan
from converter.batch.tally import Tally
from converter.errors import IntegrityError, SaltflatError, UnavailableError
from tests.images.cache import ROOT
from tests.unit.batch.test_planning import EXPORT, image

UNCHANGED = Outcome(is_changed=False)


def plan() -> Plan:
    return make_plan([image("a", "b", outputs=(EXPORT,)), image("a", "c"), image("d")])


def ended(found: Plan, kind: TaskKind, number: int = 0, **end: object) -> TaskFinished:
    """Return the end of the task `number` of a kind."""
    task = [each for each in found.tasks if each.kind is kind][number]
    return TaskFinished(task, "w", 1.0, 2.0, **end)


def test_a_failure_is_that_of_all_images_that_need_the_task_and_of_no_other() -> None:
    found = plan()
    tally = Tally(found)
    failure = failure_of(IntegrityError("it is broken"))
    assert tally.take(ended(found, TaskKind.FETCH, outcome=Outcome(fetched_bytes=7))) == ()
    ends = tally.take(ended(found, TaskKind.CONVERT, failure=failure))
    assert [(end.number, end.state, end.failure) for end in ends] == [
        (0, ImageState.FAILED, failure),
        (1, ImageState.FAILED, failure),
    ]
    assert ends[0].failed_task == found.tasks[1].id
    for kind in (TaskKind.FETCH, TaskKind.CONVERT, TaskKind.RECORD):
        task = next(each for each in found.tasks if each.kind is kind and each.images == (2,))
        last = tally.take(TaskFinished(task, "w", 1.0, 3.0, UNCHANGED))
    assert [(end.number, end.state) for end in last] == [(2, ImageState.UNCHANGED)]
    (total,) = tally.finish(4.0)
    assert (total.failed, total.unchanged, total.fetched_bytes) == (2, 1, 7)
    assert total.exit_code == IntegrityError.exit_code


def test_what_was_not_reached_is_skipped_and_a_lost_worker_is_no_end() -> None:
    found = plan()
    tally = Tally(found)
    task = found.tasks[0]
    assert tally.take(TaskLost(task, "w", 0.0, 1.0, "was ended by SIGKILL")) == ()
    *skipped, total = tally.finish(2.0, stopped_by=KeyboardInterrupt())
    assert [end.state for end in skipped] == [ImageState.SKIPPED] * 3
    assert (total.lost_tasks, total.skipped) == (1, 3)
    assert (total.exit_code, total.is_interrupted) == (130, True)
    (gone,) = tally.finish(3.0, stopped_by=UnavailableError("the scheduler has gone"))
    assert (gone.exit_code, gone.is_interrupted) == (8, True)


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((), 0), ((8, 3), 3), ((3, 1, 7), 1), ((1, 5, 8), 5), ((8,), 8), ((2, 4), 4)],
)
def test_the_worst_code_is_what_most_needs_a_person(codes: tuple[int, ...], worst: int) -> None:
    assert worst_exit_code(Failure("kind", code, "what") for code in codes) == worst


@pytest.mark.parametrize("page", ["batch.md", "exit-codes.md"])
def test_the_documented_order_is_that_of_all_kinds(page: str) -> None:
    text = " ".join((ROOT / "docs" / page).read_text().split())
    (order,) = re.findall(r"the first of ((?:\d, )+\d)", text)
    codes = [int(code) for code in order.split(", ")]
    assert {kind.exit_code for kind in (SaltflatError, *SaltflatError.__subclasses__())} == {*codes}
    for worse, better in pairwise(codes):
        failures = [Failure("kind", code, "what") for code in (better, worse)]
        assert worst_exit_code(failures) == worse


def test_failures_tell_what_errors_tell() -> None:
    error = UnavailableError("It is away.", expected="it here", hint="Wait.", cause="gone")
    assert failure_of(error) == Failure("unavailable", 8, "It is away.", "it here", "Wait.", "gone")
    assert failure_of(OSError(28, "No space left", "/store")).what == "No space left (/store)."
    assert "has a bug: KeyError" in failure_of(KeyError("x")).what
