"""A batch as JSON: a line for each event, and the result. Owns the members' names and forms.

Source: docs/schema/progress.json and docs/schema/batch.json, which tests hold these to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from converter.batch.events import (
    BatchEvent,
    BatchFinished,
    BatchPlanned,
    ImageFinished,
    LinkMade,
    Outcome,
    Said,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.failure import Failure
from converter.batch.plan import PlannedOutput, Task
from converter.batch.report.history import BatchRecord, ImageRecord

SCHEMA = 1
Document = dict[str, object]


def event_document(event: BatchEvent) -> Document:
    """Return an event as an object for a line of its own."""
    name, members = _event(event)
    return {"schema": SCHEMA, "event": name, **members}


def result_document(record: BatchRecord) -> Document:
    """Return what came of a batch, with each image in the order of the plan."""
    return {
        "schema": SCHEMA,
        "images": [_image(image) for image in record.images],
        "shared_bytes": record.plan.figures.shared_bytes,
        "workers": record.workers,
        "warnings": list(record.warnings),
        **_total(record.total),
    }


def _event(event: BatchEvent) -> tuple[str, Document]:
    if isinstance(event, BatchPlanned):
        return "batch-planned", {
            "tasks": len(event.plan.tasks),
            "workers": event.workers,
            **asdict(event.plan.figures),
        }
    if isinstance(event, TaskStarted):
        return "task-started", {
            **_task(event.task),
            "worker": event.worker,
            "at_seconds": _seconds(event.at_seconds),
            "attempt": event.attempt,
        }
    if isinstance(event, TaskAdvanced):
        return "task-advanced", {
            **_task(event.task),
            "done_bytes": event.done_bytes,
            "total_bytes": event.total_bytes or None,
        }
    if isinstance(event, TaskFinished):
        return "task-finished", {
            **_task(event.task),
            **_span(event),
            "outcome": _outcome(event.outcome) if event.outcome else None,
            "failure": failure_document(event.failure) if event.failure else None,
        }
    if isinstance(event, TaskLost):
        return "task-lost", {**_task(event.task), **_span(event), "reason": event.reason}
    if isinstance(event, ImageFinished):
        return "image-finished", {
            "number": event.number,
            "reference": event.reference,
            "digest": event.digest,
            "platform": event.platform,
            "state": event.state.value,
            "at_seconds": _seconds(event.at_seconds),
            "failed_task": event.failed_task or None,
            "failure": failure_document(event.failure) if event.failure else None,
        }
    if isinstance(event, Said):
        # As every other verb says it, so that who reads lines needs to know one form.
        return "note", {"text": event.text, "warning": event.is_warning, "minor": False}
    return "batch-finished", _total(event)


def _task(task: Task) -> Document:
    return {"task": task.id, "kind": task.kind.value, "name": task.name}


def _span(event: TaskFinished | TaskLost) -> Document:
    return {
        "worker": event.worker,
        "started_seconds": _seconds(event.started_seconds),
        "at_seconds": _seconds(event.at_seconds),
    }


def _outcome(outcome: Outcome) -> Document:
    return {
        "changed": outcome.is_changed,
        "fetched_bytes": outcome.fetched_bytes,
        "written_bytes": outcome.written_bytes,
        "sent_bytes": outcome.sent_bytes,
        "links": [_link(link) for link in outcome.links],
    }


def _link(link: LinkMade) -> Document:
    return {
        "link_id": link.link_id,
        "size": link.size_bytes,
        "sha256": link.sha256 or None,
        "new": link.is_new,
        "from_cache": link.from_cache,
        "empty": link.empty,
    }


def failure_document(failure: Failure) -> Document:
    """Return a failure as an error on standard error has it."""
    return {
        "kind": failure.kind,
        **({"cause": failure.cause} if failure.cause else {}),
        "what": failure.what,
        "expected": failure.expected,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
    }


def outputs_document(outputs: Iterable[PlannedOutput]) -> list[Document]:
    """Return what is made of an image."""
    return [{"kind": output.kind.value, "place": output.place} for output in outputs]


def _image(image: ImageRecord) -> Document:
    end = image.end
    return {
        "reference": end.reference,
        "digest": end.digest,
        "platform": end.platform,
        "state": end.state.value,
        "links": len(image.planned.links),
        "new_links": image.new_links,
        "blob_bytes": image.blob_bytes,
        "shared_bytes": image.shared_bytes,
        "ended_seconds": _seconds(end.at_seconds),
        "work_seconds": _seconds(image.work_seconds),
        "outputs": outputs_document(image.planned.outputs),
        "failed_task": end.failed_task or None,
        "failure": failure_document(end.failure) if end.failure else None,
    }


def _total(total: BatchFinished) -> Document:
    return {
        "seconds": _seconds(total.at_seconds),
        "done": total.done,
        "unchanged": total.unchanged,
        "failed": total.failed,
        "skipped": total.skipped,
        "fetched_bytes": total.fetched_bytes,
        "written_bytes": total.written_bytes,
        "sent_bytes": total.sent_bytes,
        "links_made": total.links_made,
        "links_cached": total.links_cached,
        "lost_tasks": total.lost_tasks,
        "exit_code": total.exit_code,
        "interrupted": total.is_interrupted,
    }


def _seconds(seconds: float) -> float:
    return round(seconds, 3)
