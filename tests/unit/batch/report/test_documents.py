"""What a batch says in JSON: by the published schemas, and adding up."""

from __future__ import annotations

import json

from converter.batch.events import ImageState, TaskFinished
from converter.batch.report.documents import event_document, result_document
from tests.schemas import check
from tests.unit.batch.report.samples import MIB, record_of, small_events


def test_every_event_has_a_line_by_the_schema() -> None:
    events = small_events()
    documents = [json.loads(json.dumps(event_document(event))) for event in events]
    for document in documents:
        check("progress", document)
    assert {document["event"] for document in documents} == {
        *("batch-planned", "note", "task-started", "task-advanced", "task-finished", "task-lost"),
        *("image-finished", "batch-finished"),
    }
    planned, finished = documents[0], documents[-1]
    assert (planned["images"], planned["tasks"]) == (4, len(set(map(_task, documents)) - {None}))
    assert planned["fetch_bytes"] == finished["fetched_bytes"]


def _task(document: dict[str, object]) -> object:
    return document.get("task")


def test_the_result_has_each_image_and_the_sums() -> None:
    record = record_of(small_events())
    document = json.loads(json.dumps(result_document(record)))
    check("batch", document)
    assert [image["state"] for image in document["images"]] == ["done", "done", "done", "failed"]
    assert [image["new_links"] for image in document["images"]] == [2, 2, 1, 0]
    # The base in three of them, "lib" in two.
    assert [image["shared_bytes"] // MIB for image in document["images"]] == [38, 38, 30, 0]
    failed = document["images"][3]
    assert (failed["failure"]["exit_code"], document["exit_code"]) == (5, 5)
    assert failed["failure"]["cause"] == "x"


def test_the_images_parts_are_all_the_work_there_was() -> None:
    events = small_events()
    record = record_of(events)
    assert sum(image.work_seconds for image in record.images) == sum(
        span.seconds for span in record.spans
    )
    assert len(record.spans) == sum(isinstance(event, TaskFinished) for event in events) + 1


def test_what_never_ended_was_skipped() -> None:
    events = [event for event in small_events() if "ImageFinished" not in repr(type(event))]
    record = record_of(events)
    assert {image.end.state for image in record.images} == {ImageState.SKIPPED}
