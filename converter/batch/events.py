"""What a batch tells whoever watches. Owns the event types; who renders them is the command line.

An executor emits the events of tasks; `converter.batch.tally` makes those of images out of them,
and the sum. All times are seconds since the batch began, so that no event knows a clock. Sizes are
bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from converter.batch.failure import Failure
from converter.batch.plan import Plan, Task


class ImageState(Enum):
    """How an image of a batch ended."""

    DONE = "done"
    UNCHANGED = "unchanged"  # everything was there before
    FAILED = "failed"
    SKIPPED = "skipped"  # the batch ended before it could be done


@dataclass(frozen=True, slots=True)
class LinkMade:
    """A link that is good now, under its identity in the store; an `empty` one has no disk.

    `is_new`: this task made it, or brought it from a cache if it is `from_cache`; else it was in
    the store when the task came to it.
    """

    link_id: str
    size_bytes: int
    sha256: str
    is_new: bool
    from_cache: bool = False
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task has done.

    `fetched_bytes` came from a registry or an archive into the store, `written_bytes` were written
    by it (links, exports), `sent_bytes` went to a registry or a server. `is_changed` is false where
    everything was there before. `summary` is one short phrase for a log.
    """

    summary: str = ""
    fetched_bytes: int = 0
    written_bytes: int = 0
    sent_bytes: int = 0
    links: tuple[LinkMade, ...] = ()
    is_changed: bool = True


@dataclass(frozen=True, slots=True)
class BatchPlanned:
    """All is known of what will be done: the first event. `workers` do it side by side."""

    plan: Plan
    workers: int


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker begins with a task; `attempt` counts from 1."""

    task: Task
    worker: str
    at_seconds: float
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class TaskAdvanced:
    """A task has handled `done_bytes` of its `total_bytes`, which is 0 if nobody knows."""

    task: Task
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """A task is done, or has failed for good if there is a `failure`.

    A task that never began because one that it needs failed has no event.
    """

    task: Task
    worker: str
    started_seconds: float
    at_seconds: float
    outcome: Outcome | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TaskLost:
    """The worker died with the task, or gave it up for now: it is begun anew, here or elsewhere.

    `reason` goes on after "its worker": "died", "was ended by SIGKILL", "gave up: ...".
    """

    task: Task
    worker: str
    started_seconds: float
    at_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class ImageFinished:
    """An image is as far as it comes. `number` is its index in the plan.

    `failure` and the task in which it happened, `failed_task`, are there if the state is FAILED.
    """

    number: int
    reference: str
    digest: str
    platform: str
    state: ImageState
    at_seconds: float
    failure: Failure | None = None
    failed_task: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a person should know: a warning of a task, or of the batch itself."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class BatchFinished:
    """The last event: how many images ended in which state, and what it took.

    `links_made` counts new links that were converted here, `links_cached` those that came from a
    cache. `exit_code` is the worst of all images', or of what stopped the batch
    before its end, if it `is_interrupted`.
    """

    at_seconds: float
    done: int
    unchanged: int
    failed: int
    skipped: int
    fetched_bytes: int
    written_bytes: int
    sent_bytes: int
    links_made: int
    links_cached: int
    lost_tasks: int
    exit_code: int
    is_interrupted: bool = False


TaskEvent = TaskStarted | TaskAdvanced | TaskFinished | TaskLost | Said
BatchEvent = BatchPlanned | TaskEvent | ImageFinished | BatchFinished
Watch = Callable[[BatchEvent], None]
WatchTasks = Callable[[TaskEvent], None]
