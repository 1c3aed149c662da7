"""What the events of tasks mean for images, and what they come to in the end. Pure.

Keeps a few numbers for each image and task that is under way, and no event.
"""

from __future__ import annotations

from converter.batch.events import (
    BatchFinished,
    ImageFinished,
    ImageState,
    Outcome,
    TaskEvent,
    TaskFinished,
    TaskLost,
)
from converter.batch.failure import Failure, exit_code_of, worst_exit_code
from converter.batch.plan import Plan


class Tally:
    """Counts what becomes of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._left = [0] * len(plan.images)
        self._is_changed = [False] * len(plan.images)
        self._ended: dict[int, ImageState] = {}
        self._failures: list[Failure] = []
        self._lost = 0
        self._outcomes = _Sums()
        for task in plan.tasks:
            for number in task.images:
                self._left[number] += 1

    @property
    def ended(self) -> int:
        """How many images are as far as they come."""
        return len(self._ended)

    def begin(self) -> tuple[ImageFinished, ...]:
        """Return the ends of images that failed before anything was begun."""
        return tuple(
            self._end(number, ImageState.FAILED, 0.0, image.failure, "resolve")
            for number, image in enumerate(self._plan.images)
            if image.failure is not None
        )

    def take(self, event: TaskEvent) -> tuple[ImageFinished, ...]:
        """Count an event; return the ends of the images that it ended."""
        if isinstance(event, TaskLost):
            self._lost += 1
        if not isinstance(event, TaskFinished):
            return ()
        open_images = [number for number in event.task.images if number not in self._ended]
        if event.failure is not None:
            return tuple(
                self._end(number, ImageState.FAILED, event.at_seconds, event.failure, event.task.id)
                for number in open_images
            )
        outcome = event.outcome or Outcome()
        self._outcomes.add(outcome)
        ends = []
        for number in open_images:
            self._is_changed[number] |= outcome.is_changed
            self._left[number] -= 1
            if not self._left[number]:
                changed = self._is_changed[number]
                state = ImageState.DONE if changed else ImageState.UNCHANGED
                ends.append(self._end(number, state, event.at_seconds))
        return tuple(ends)

    def finish(
        self, at_seconds: float, *, stopped_by: BaseException | None = None
    ) -> tuple[ImageFinished | BatchFinished, ...]:
        """Return the ends of all other images, which were not reached, and the sum.

        `stopped_by` is what ended the batch before its end.
        """
        skipped = tuple(
            self._end(number, ImageState.SKIPPED, at_seconds)
            for number in range(len(self._plan.images))
            if number not in self._ended
        )
        states = list(self._ended.values())
        sums = self._outcomes
        return (
            *skipped,
            BatchFinished(
                at_seconds,
                done=states.count(ImageState.DONE),
                unchanged=states.count(ImageState.UNCHANGED),
                failed=states.count(ImageState.FAILED),
                skipped=states.count(ImageState.SKIPPED),
                fetched_bytes=sums.fetched_bytes,
                written_bytes=sums.written_bytes,
                sent_bytes=sums.sent_bytes,
                links_made=sums.links_made,
                links_cached=sums.links_cached,
                lost_tasks=self._lost,
                exit_code=exit_code_of(stopped_by)
                if stopped_by is not None
                else worst_exit_code(self._failures),
                is_interrupted=stopped_by is not None,
            ),
        )

    def _end(
        self,
        number: int,
        state: ImageState,
        at_seconds: float,
        failure: Failure | None = None,
        failed_task: str = "",
    ) -> ImageFinished:
        self._ended[number] = state
        if failure is not None:
            self._failures.append(failure)
        image = self._plan.images[number]
        return ImageFinished(
            number,
            image.reference,
            image.digest,
            image.platform,
            state,
            at_seconds,
            failure,
            failed_task,
        )


class _Sums:
    """The outcomes of all tasks together."""

    def __init__(self) -> None:
        self.fetched_bytes = self.written_bytes = self.sent_bytes = 0
        self.links_made = self.links_cached = 0

    def add(self, outcome: Outcome) -> None:
        self.fetched_bytes += outcome.fetched_bytes
        self.written_bytes += outcome.written_bytes
        self.sent_bytes += outcome.sent_bytes
        for link in outcome.links:
            self.links_cached += link.is_new and link.from_cache
            self.links_made += link.is_new and not link.from_cache
