"""What happened in a batch, as a value that its events add up to. Owns the sums; shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from converter.batch.events import (
    BatchEvent,
    BatchFinished,
    BatchPlanned,
    ImageFinished,
    ImageState,
    Outcome,
    Said,
    TaskFinished,
    TaskLost,
)
from converter.batch.plan import Plan, PlannedImage, Task, TaskKind

MOST_WARNINGS = 200  # that are kept; the others are counted


class SpanEnd(Enum):
    """How a worker's time with a task ended."""

    DONE = "done"
    FAILED = "failed"
    LOST = "lost"  # with the worker


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a worker had a task, in seconds since the batch began."""

    task: Task
    worker: str
    begun_seconds: float
    ended_seconds: float
    end: SpanEnd
    outcome: Outcome | None = None

    @property
    def seconds(self) -> float:
        """Return how long it was."""
        return self.ended_seconds - self.begun_seconds


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image: what the plan has of it, how it ended, and what it cost.

    `new_links` are those of its chain that this batch brought. `blob_bytes` are of its layers as
    they are transported, `shared_bytes` of those that other images of the batch have too.
    `work_seconds` is its part of the workers' time: what several images needed is divided among
    them, so that all parts together are all that was worked.
    """

    planned: PlannedImage
    end: ImageFinished
    new_links: int
    blob_bytes: int
    shared_bytes: int
    work_seconds: float


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A whole batch: its plan, what became of each image, and which worker did what when.

    `made` has the keys of the links that tasks of this batch brought into the store. Of warnings
    there were `warning_count`, of which the first are here.
    """

    plan: Plan
    workers: int
    images: tuple[ImageRecord, ...]
    spans: tuple[Span, ...]
    made: frozenset[str]
    users: Mapping[str, int]  # images that have a link in their chain, by its key
    warnings: tuple[str, ...]
    warning_count: int
    total: BatchFinished


class History:
    """Collects the events of one batch, from whichever executor."""

    def __init__(self) -> None:
        self._planned: BatchPlanned | None = None
        self._ended: dict[int, ImageFinished] = {}
        self._spans: list[Span] = []
        self._warnings: list[str] = []
        self._warning_count = 0
        self._total: BatchFinished | None = None

    def take(self, event: BatchEvent) -> None:
        """Remember an event. May be the batch's watch; events that only say how far it is pass."""
        if isinstance(event, BatchPlanned):
            self._planned = event
        elif isinstance(event, TaskFinished):
            self._spans.append(
                Span(
                    event.task,
                    event.worker,
                    event.started_seconds,
                    event.at_seconds,
                    SpanEnd.FAILED if event.failure else SpanEnd.DONE,
                    event.outcome,
                )
            )
        elif isinstance(event, TaskLost):
            self._spans.append(
                Span(
                    event.task, event.worker, event.started_seconds, event.at_seconds, SpanEnd.LOST
                )
            )
        elif isinstance(event, ImageFinished):
            self._ended[event.number] = event
        elif isinstance(event, Said):
            if event.is_warning:
                self._warning_count += 1
                if len(self._warnings) < MOST_WARNINGS:
                    self._warnings.append(event.text)
        elif isinstance(event, BatchFinished):
            self._total = event

    def record(self) -> BatchRecord | None:
        """Return what happened, or None of a batch that did not come to its last event."""
        if self._planned is None or self._total is None:
            return None
        plan = self._planned.plan
        users, blob_users = _users(plan)
        work = _work(plan, self._spans)
        made = _made(self._spans)
        images = []
        for number, image in enumerate(plan.images):
            blobs = dict.fromkeys(blob for key in image.links for blob in plan.links[key].blobs)
            sizes = {blob: plan.blobs[blob].size_bytes for blob in blobs}
            images.append(
                ImageRecord(
                    image,
                    self._ended.get(number) or _unreached(number, image, self._total.at_seconds),
                    sum(key in made for key in image.links),
                    sum(sizes.values()),
                    sum(size for blob, size in sizes.items() if blob_users[blob] > 1),
                    work[number],
                )
            )
        return BatchRecord(
            plan,
            self._planned.workers,
            tuple(images),
            tuple(self._spans),
            made,
            users,
            tuple(self._warnings),
            self._warning_count,
            self._total,
        )


def _unreached(number: int, image: PlannedImage, at_seconds: float) -> ImageFinished:
    """Return the end of an image that the batch's last event came before."""
    return ImageFinished(
        number, image.reference, image.digest, image.platform, ImageState.SKIPPED, at_seconds
    )


def _users(plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """Count the images that have each link, and each blob."""
    links: dict[str, int] = dict.fromkeys(plan.links, 0)
    blobs: dict[str, int] = dict.fromkeys(plan.blobs, 0)
    for image in plan.images:
        keys = dict.fromkeys(image.links)
        for key in keys:
            links[key] += 1
        for blob in dict.fromkeys(blob for key in keys for blob in plan.links[key].blobs):
            blobs[blob] += 1
    return links, blobs


def _work(plan: Plan, spans: list[Span]) -> list[float]:
    work = [0.0] * len(plan.images)
    for span in spans:
        for number in span.task.images:
            work[number] += span.seconds / len(span.task.images)
    return work


def _made(spans: list[Span]) -> frozenset[str]:
    """Return the keys of the links that are new in the store."""
    found = set()
    for span in spans:
        if span.task.kind is TaskKind.CONVERT and span.outcome is not None:
            # One for one, as the task had them: what was there before is told of too.
            for key, link in zip(span.task.links, span.outcome.links, strict=False):
                if link.is_new:
                    found.add(key)
    return frozenset(found)
