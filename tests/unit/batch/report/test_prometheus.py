"""Metrics, read back by the parser of Prometheus' own client."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from converter.batch.report.history import BatchRecord
from converter.batch.report.prometheus import encode_prometheus, read_last_success
from tests.unit.batch.report.samples import HOSTILE, many, record_of, small_events

NAME = f'night\\ly "{HOSTILE}'
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: bytes, batch: str = NAME) -> Samples:
    """Return the samples by name and labels, without that of the batch."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("batch") == batch
            assert sample.timestamp is None  # the collector takes no file that has one
            key = (sample.name.removeprefix("saltflat_batch_"), frozenset(labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def encode(record: BatchRecord, *, ended: float, last_success: float | None = None) -> bytes:
    return encode_prometheus(record, batch=NAME, ended=ended, last_success=last_success)


def test_a_run_that_failed() -> None:
    record = record_of(small_events())
    samples = read(encode(record, ended=1_800_000_000.5))
    plain = {name: value for (name, labels), value in samples.items() if not labels}
    total = record.total
    assert plain == {
        "last_run_timestamp_seconds": 1_800_000_000.5,
        "exit_code": 5,
        "interrupted": 0,
        "duration_seconds": round(total.at_seconds, 3),
        "workers": 2,
        "fetched_bytes": total.fetched_bytes,
        "shared_bytes": record.plan.figures.shared_bytes,
        "written_bytes": total.written_bytes,
        "sent_bytes": total.sent_bytes,
        "lost_tasks": 1,
    }
    labelled = {(name, *sorted(labels)): value for (name, labels), value in samples.items()}
    assert labelled["images", ("state", "done")] == 3
    assert labelled["images", ("state", "skipped")] == 0
    assert labelled["failures", ("code", "5")] == 1
    assert labelled["links", ("from", "made")] == 4
    assert labelled["tasks", ("end", "failed"), ("kind", "convert")] == 1
    assert labelled["tasks", ("end", "lost"), ("kind", "convert")] == 1
    seconds = sum(value for (name, _), value in samples.items() if name == "task_seconds")
    assert abs(seconds - sum(span.seconds for span in record.spans)) < 0.01


def test_the_last_success_outlives_failures() -> None:
    good, bad = many(3, 1, 1), record_of(small_events())
    first = encode(good, ended=1000)
    assert read_last_success(first, batch=NAME) == 1000
    second = encode(bad, ended=2000.25, last_success=read_last_success(first, batch=NAME))
    third = encode(bad, ended=3000, last_success=read_last_success(second, batch=NAME))
    samples = read(third)
    assert samples["last_success_timestamp_seconds", frozenset()] == 1000
    assert samples["last_run_timestamp_seconds", frozenset()] == 3000
    interrupted = replace(good, total=replace(good.total, is_interrupted=True))
    fourth = encode(interrupted, ended=4000, last_success=read_last_success(third, batch=NAME))
    assert read_last_success(fourth, batch=NAME) == 1000
    assert read_last_success(encode(good, ended=5000.5), batch=NAME) == 5000.5


def test_what_is_in_another_file_is_no_success_of_ours() -> None:
    other = encode_prometheus(many(2, 1, 1), batch="other", ended=1000, last_success=None)
    for text in (b"", b"\xff\xfe", other, b"saltflat_batch_last_success_timestamp_seconds 5\n"):
        assert read_last_success(text, batch=NAME) is None
