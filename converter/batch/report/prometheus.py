"""A batch's sums as metrics in a text file. Owns their names and what they mean; writes no file.

For the textfile collector of Prometheus' node exporter, which shows what its folder's files say: so
all are gauges of the last run, and none has a time stamp of its own, which the collector refuses.
Source: the text format, https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converter.batch.events import ImageState
from converter.batch.plan import TaskKind
from converter.batch.report.history import BatchRecord, SpanEnd

_SUCCESS = "saltflat_batch_last_success_timestamp_seconds"
_VALUE = r"([0-9]+(?:\.[0-9]+)?)"
MOST_BYTES = 1 << 20  # of an older file; ours have a few KiB


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    help: str
    values: Sequence[tuple[dict[str, str], float]]


def encode_prometheus(
    record: BatchRecord, *, batch: str, ended: float, last_success: float | None
) -> bytes:
    """Return the file that tells of a batch named `batch`, which ended at `ended`.

    `last_success` is when one ended well before this, None if none did (`read_last_success`). Times
    are seconds since the epoch.
    """
    if record.total.exit_code == 0 and not record.total.is_interrupted:
        last_success = ended
    lines: list[str] = []
    for metric in _metrics(record, ended, last_success):
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge"]
        lines += [
            f"{metric.name}{_labels({'batch': batch, **labels})} {_number(value)}"
            for labels, value in metric.values
        ]
    return ("\n".join(lines) + "\n").encode()


def read_last_success(text: bytes, *, batch: str) -> float | None:
    """Return when `batch` last ended well, as a file that was written of it says; None if never."""
    sample = re.compile(
        rf"^{_SUCCESS}{re.escape(_labels({'batch': batch}))} {_VALUE}$", re.MULTILINE
    )
    found = sample.search(text[:MOST_BYTES].decode("utf-8", "replace"))
    return float(found[1]) if found else None


def _metrics(record: BatchRecord, ended: float, last_success: float | None) -> Iterator[_Metric]:
    total = record.total
    yield _one("last_run_timestamp_seconds", "When the batch last ended, in whatever way.", ended)
    if last_success is not None:
        yield _one(
            "last_success_timestamp_seconds", "When all its images were last done.", last_success
        )
    yield _one("exit_code", "Exit code of the last run, 0 if all went well.", total.exit_code)
    yield _one("interrupted", "Whether the last run was interrupted.", total.is_interrupted)
    yield _one("duration_seconds", "How long the last run took.", total.at_seconds)
    yield _one("workers", "How many tasks the last run did side by side.", record.workers)
    yield _Metric(
        "saltflat_batch_images",
        "Images of the last run by how they ended.",
        [
            ({"state": state.value}, sum(image.end.state is state for image in record.images))
            for state in ImageState
        ],
    )
    codes = [image.end.failure.exit_code for image in record.images if image.end.failure]
    if codes:
        yield _Metric(
            "saltflat_batch_failures",
            "Images of the last run that failed, by the exit code of the failure.",
            [({"code": str(code)}, codes.count(code)) for code in sorted(set(codes))],
        )
    yield _one("fetched_bytes", "Bytes that the last run fetched.", total.fetched_bytes)
    yield _one(
        "shared_bytes",
        "Bytes of layers that the last run did not have to handle again for further images.",
        record.plan.figures.shared_bytes,
    )
    yield _one("written_bytes", "Bytes of disks that the last run wrote.", total.written_bytes)
    yield _one("sent_bytes", "Bytes that the last run sent to registries.", total.sent_bytes)
    yield _Metric(
        "saltflat_batch_links",
        "Links that the last run brought into the store, by where they came from.",
        [({"from": "made"}, total.links_made), ({"from": "cache"}, total.links_cached)],
    )
    yield _one(
        "lost_tasks", "Tasks of the last run that were lost with their workers.", total.lost_tasks
    )
    yield from _tasks(record)


def _tasks(record: BatchRecord) -> Iterator[_Metric]:
    keys = [(kind, end) for kind in TaskKind for end in SpanEnd]
    counts: dict[tuple[TaskKind, SpanEnd], int] = dict.fromkeys(keys, 0)
    seconds: dict[tuple[TaskKind, SpanEnd], float] = dict.fromkeys(keys, 0.0)
    for span in record.spans:
        counts[span.task.kind, span.end] += 1
        seconds[span.task.kind, span.end] += span.seconds
    there = [key for key in keys if counts[key]]
    if there:
        labels = [{"kind": kind.value, "end": end.value} for kind, end in there]
        yield _Metric(
            "saltflat_batch_tasks",
            "Tasks of the last run by kind and by how they ended.",
            list(zip(labels, (counts[key] for key in there), strict=True)),
        )
        yield _Metric(
            "saltflat_batch_task_seconds",
            "Time that workers of the last run had tasks of a kind.",
            list(zip(labels, (seconds[key] for key in there), strict=True)),
        )


def _one(name: str, about: str, value: float) -> _Metric:
    return _Metric(f"saltflat_batch_{name}", about, [({}, value)])


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """Escape a label's value; what a decoder could not read is no text anyway."""
    clean = value.encode("utf-8", "backslashreplace").decode()
    return clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
