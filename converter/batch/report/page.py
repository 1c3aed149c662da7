"""A batch as one page that stands for itself. Owns the page and its bounds; draws no picture.

Without a script, and without anything that would have to be fetched. Strangers' names are escaped,
and every table has a bound: what it leaves out it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converter.batch.events import ImageState
from converter.batch.failure import Failure
from converter.batch.report.history import BatchRecord, ImageRecord
from converter.batch.report.shapes import Picture, count, duration
from converter.batch.report.sharing import draw_sharing
from converter.batch.report.timeline import draw_timeline
from converter.drawing.page import encode_page
from converter.drawing.text import shown, size_text, xml

MOST_ROWS = 2000  # of the table of images
MOST_FAILURES = 500
MOST_OUTPUTS = 10  # of an image
_OWN = """
h1{font-size:20px;margin:32px 0 4px}h2{font-size:15px;margin:20px 0 8px}
p{margin:0 0 12px}.ok{color:#2f8a62}.bad{color:#c22f2f}.idle{color:#7a8794}
dl{display:flex;flex-wrap:wrap;gap:8px 28px;margin:12px 0}dt{color:#7a8794;font-size:12px}
dd{margin:0;font-size:18px}
"""
_STATES = {
    ImageState.DONE: "ok",
    ImageState.UNCHANGED: "idle",
    ImageState.FAILED: "bad",
    ImageState.SKIPPED: "idle",
}
_COLUMNS = ("image", "state", "links", "new", "layers", "shared", "work", "done after", "outputs")
_DIGEST_SHOWN = 19  # sha256: and twelve digits


def encode_html(record: BatchRecord, *, title: str = "Batch", when: str = "") -> bytes:
    """Return the page, which is well-formed XML too.

    `title` names the batch and `when` says when it ran, in words; the record knows no calendar.
    """
    return encode_page(
        f"{shown(title)}: batch report",
        [
            "<section>",
            f"<h1>{xml(shown(title))}</h1>",
            f"<p>{xml(shown(when))}{' · ' * bool(when)}{_summary(record)}</p>",
            *_figures(record),
            *_failures(record),
            "</section>",
            draw_timeline(record).element(),
            draw_sharing(record).element(),
            "<section>",
            *_images(record),
            *_warnings(record),
            "</section>",
        ],
        style=_OWN,
    )


def encode_svg(record: BatchRecord) -> bytes:
    """Return the two pictures alone, one above the other, as a file of its own."""
    above, below = draw_timeline(record), draw_sharing(record)
    lines = [above.element(), below.element(top=above.height)]
    whole = Picture("What a batch did", above.height + below.height, lines)
    return (whole.element() + "\n").encode()


def _summary(record: BatchRecord) -> str:
    total = record.total
    parts = [
        f"{number:,} {state.value}"
        for state, number in (
            (ImageState.DONE, total.done),
            (ImageState.UNCHANGED, total.unchanged),
            (ImageState.FAILED, total.failed),
            (ImageState.SKIPPED, total.skipped),
        )
        if number
    ]
    if total.is_interrupted:
        parts.append("interrupted")
    class_ = "ok" if total.exit_code == 0 and not total.is_interrupted else "bad"
    return f'<b class="{class_}">{", ".join(parts) or "no image"}</b> · exit code {total.exit_code}'


def _figures(record: BatchRecord) -> Iterator[str]:
    total = record.total
    yield "<dl>"
    for name, value in (
        ("images", f"{len(record.images):,}"),
        ("time", duration(total.at_seconds)),
        ("workers", f"{record.workers:,}"),
        ("fetched", size_text(total.fetched_bytes)),
        ("shared, not handled again", size_text(record.plan.figures.shared_bytes)),
        ("written", size_text(total.written_bytes)),
        ("sent", size_text(total.sent_bytes)),
        ("links made", f"{total.links_made:,}"),
        ("links from a cache", f"{total.links_cached:,}"),
        *([("tasks lost with a worker", f"{total.lost_tasks:,}")] if total.lost_tasks else []),
    ):
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"


def _failures(record: BatchRecord) -> Iterator[str]:
    ends = [image.end for image in record.images]
    failed = [(end, end.failure) for end in ends if end.failure is not None]
    if not failed:
        return
    yield f"<h2>{count(len(failed), 'image')} failed</h2>"
    yield "<table><thead><tr><th>image</th><th>in</th><th>why</th><th>code</th></tr></thead><tbody>"
    for end, failure in failed[:MOST_FAILURES]:
        yield (
            f"<tr><td><code>{_text(end.reference)}</code></td>"
            f"<td>{_text(end.failed_task)}</td><td>{_reason(failure)}</td>"
            f'<td class="size">{failure.exit_code}</td></tr>'
        )
    yield "</tbody></table>"
    if len(failed) > MOST_FAILURES:
        yield f"<p>{len(failed) - MOST_FAILURES:,} more failed.</p>"


def _reason(failure: Failure) -> str:
    lines = [f"<b>{_text(failure.what)}</b>"]
    if failure.expected:
        lines.append(f"Expected: {_text(failure.expected)}")
    if failure.hint:
        lines.append(f"Next: {_text(failure.hint)}")
    return "<br/>".join(lines)


def _images(record: BatchRecord) -> Iterator[str]:
    rows = _worth_seeing(record.images)
    yield "<h2>Images</h2>"
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    yield f"<table><thead><tr>{head}</tr></thead><tbody>"
    for image in rows:
        yield _row(image)
    yield "</tbody></table>"
    if len(rows) < len(record.images):
        left = len(record.images) - len(rows)
        yield f"<p>{left:,} more, which took the least work. The JSON result has all.</p>"


def _worth_seeing(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return as many images as are shown: all, or what did not end well and what took longest."""
    if len(images) <= MOST_ROWS:
        return list(images)
    fine = {ImageState.DONE, ImageState.UNCHANGED}
    order = sorted(
        range(len(images)),
        key=lambda at: (images[at].end.state in fine, -images[at].work_seconds, at),
    )
    return [images[at] for at in sorted(order[:MOST_ROWS])]


def _row(image: ImageRecord) -> str:
    planned, end = image.planned, image.end
    outputs = [
        f"{output.kind.value} <code>{_text(output.place)}</code>"
        for output in planned.outputs[:MOST_OUTPUTS]
    ]
    if len(outputs) < len(planned.outputs):
        outputs.append(f"{len(planned.outputs) - len(outputs):,} more")
    return (
        f'<tr><td title="{_text(planned.digest)}"><code>{_text(planned.reference)}</code> '
        f"{_text(planned.platform)}<br/><code>{_text(planned.digest[:_DIGEST_SHOWN])}</code></td>"
        f'<td class="{_STATES[end.state]}">{end.state.value}</td>'
        f'<td class="size">{len(planned.links)}</td><td class="size">{image.new_links}</td>'
        f'<td class="size" title="{image.blob_bytes} bytes">{size_text(image.blob_bytes)}</td>'
        f'<td class="size" title="{image.shared_bytes} bytes">{size_text(image.shared_bytes)}</td>'
        f'<td class="size">{duration(image.work_seconds)}</td>'
        f'<td class="size">{duration(end.at_seconds)}</td>'
        f"<td>{'<br/>'.join(outputs)}</td></tr>"
    )


def _warnings(record: BatchRecord) -> Iterator[str]:
    if not record.warnings:
        return
    yield f"<h2>{count(record.warning_count, 'warning')}</h2><ul>"
    for warning in record.warnings:
        yield f"<li>{_text(warning)}</li>"
    yield "</ul>"
    if record.warning_count > len(record.warnings):
        yield f"<p>{record.warning_count - len(record.warnings):,} more.</p>"


def _text(words: str) -> str:
    return xml(shown(words))
