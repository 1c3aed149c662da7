"""The page: well-formed, bounded, harmless, and true to the batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from converter.batch.report.history import BatchRecord
from converter.batch.report.page import MOST_FAILURES, MOST_OUTPUTS, encode_html, encode_svg
from converter.batch.report.page import MOST_ROWS as MOST_ROWS_OF_IMAGES
from converter.batch.report.sharing import MOST_ROWS
from converter.batch.report.timeline import MOST_LANES
from tests.unit.batch.report.samples import many, record_of, small_events

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {
    *("svg", "title", "style", "rect", "path", "text"),
    *("html", "head", "meta", "body", "section", "table", "thead", "tbody", "tr", "th", "td"),
    *("h1", "h2", "p", "dl", "dt", "dd", "div", "ul", "li", "code", "b", "br"),
}
SMALL = record_of(small_events())
ROWS_FOR_SIXTY = 60


def pictures(record: BatchRecord) -> tuple[ET.Element, ET.Element]:
    """Return the timeline and the chains, from the picture that has both."""
    timeline, chains = ET.fromstring(encode_svg(record)).findall(f"{SVG}svg")
    return timeline, chains


@pytest.mark.parametrize(
    ("make", "most_bytes"),
    [
        (lambda: SMALL, 30_000),
        (lambda: many(60, 15, 4), 100_000),
        (lambda: many(10_000, 300, 80, failures=700), 2_000_000),
    ],
    ids=["small", "sixty", "ten thousand"],
)
def test_it_is_well_formed_bounded_and_harmless(
    make: Callable[[], BatchRecord], most_bytes: int
) -> None:
    record = make()
    page = encode_html(record, title="nightly", when="today")
    assert len(page) < most_bytes
    root = ET.fromstring(page)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert encode_html(record, title="nightly", when="today") == page
    # It fetches nothing, no part of it is a program, and it is for both kinds of light.
    assert not re.search(rb"<script|<!\[|href|src=|url\(|@import|\son\w+=|javascript:", page)
    assert page.count(b"prefers-color-scheme:dark") == 3
    words = "".join(root.itertext())
    assert all(line.isprintable() for line in words.split("\n"))


def test_what_tables_leave_out_they_count() -> None:
    image = SMALL.images[1]
    output = image.planned.outputs[0]
    cell = f"<code>{output.place}</code>".encode()
    planned = replace(image.planned, outputs=(output,) * (MOST_OUTPUTS + 3))
    crowded = replace(image, planned=planned)
    images = (crowded, *(SMALL.images[3] for _ in range(MOST_ROWS_OF_IMAGES)))
    page = encode_html(replace(SMALL, images=images))
    assert f"{MOST_ROWS_OF_IMAGES - MOST_FAILURES:,} more failed." in page.decode()
    # It ended well, and so is the one that finds no room.
    assert b"1 more, which took the least work." in page
    assert cell not in page
    few = encode_html(replace(SMALL, images=(crowded,)))
    assert few.count(cell) == MOST_OUTPUTS
    assert b"3 more</td>" in few


def test_a_batch_of_nothing_has_a_page_too() -> None:
    image = SMALL.images[3]
    nothing = replace(
        SMALL,
        images=(
            replace(
                image,
                planned=replace(image.planned, digest="", links=()),
                end=replace(image.end, digest=""),
            ),
        ),
        spans=(),
        total=replace(SMALL.total, at_seconds=0.0),
    )
    for record in (nothing, replace(nothing, images=())):
        timeline, chains = pictures(record)
        assert not [rect for each in (timeline, chains) for rect in each.iter(f"{SVG}rect")][2:]
        assert ET.fromstring(encode_html(record)).tag == "html"


def test_it_says_what_failed_and_why() -> None:
    words = "".join(ET.fromstring(encode_html(SMALL)).itertext())
    assert "3 done, 1 failed" in words
    assert 'alert("1")</script>&amp;\\u202e\\x1b[31m\\n' in words
    assert "Expected: bytes" in words
    assert "Next: push it again" in words
    assert "1 warning" in words


def test_lanes_have_each_task_in_its_time() -> None:
    timeline, _ = pictures(SMALL)
    boxes = {}
    for rect in timeline.iter(f"{SVG}rect"):
        title = rect.findtext(f"{SVG}title")
        if title is not None:
            boxes[title] = (rect.attrib["class"], float(rect.attrib["x"]), _width(rect))
    assert len(boxes) == len(SMALL.spans)
    classes = [class_ for class_, _, _ in boxes.values()]
    assert (classes.count("failed"), classes.count("lost")) == (1, 1)
    # One scale for all: widths are times, and places are moments.
    drawn = sorted((x, width) for _, x, width in boxes.values())
    spans = sorted((span.begun_seconds, span.seconds) for span in SMALL.spans)
    scale = max(width for _, width in drawn) / max(seconds for _, seconds in spans)
    for (x, width), (begun, seconds) in zip(drawn, spans, strict=True):
        assert width == pytest.approx(seconds * scale, abs=0.1)
        assert x - drawn[0][0] == pytest.approx((begun - spans[0][0]) * scale, abs=0.2)


def test_of_very_many_tasks_lanes_are_bounded() -> None:
    record = many(2_000, 40, MOST_LANES + 6, failures=0)
    timeline, _ = pictures(record)
    words = [text.text or "" for text in timeline.iter(f"{SVG}text")]
    assert sum(word.endswith("busy") for word in words) == MOST_LANES
    assert "and 6 more workers, with less to do than these" in words
    assert len(list(timeline.iter(f"{SVG}path"))) <= 1 + MOST_LANES * 4 * 9


def test_boxes_are_as_high_as_their_images_are_many() -> None:
    record = many(ROWS_FOR_SIXTY, 15, 4)
    _, chains = pictures(record)
    heights: dict[int, list[int]] = {}
    for rect in chains.iter(f"{SVG}rect"):
        title = rect.findtext(f"{SVG}title")
        if title is not None:
            found = re.fullmatch(r"link \d+: .*, ([\d,]+) images?, new", title)
            assert found, title
            heights.setdefault(int(found[1]), []).append(int(float(rect.attrib["height"])) + 1)
    # Each link of the plan has one box, and an image's row has one height.
    assert sum(map(len, heights.values())) == len(record.plan.links)
    assert {height / count for count, each in heights.items() for height in each} == {15}
    names = [text.text for text in chains.iter(f"{SVG}text")]
    assert {image.planned.reference for image in record.images} <= set(names)


@pytest.mark.parametrize("alike", [False, True])
def test_of_very_many_images_each_is_counted_once(alike: bool) -> None:
    record = many(3_000, 90, 4)
    if alike:  # the same image under many names
        record = replace(record, images=record.images[:1] * 3_000)
    _, chains = pictures(record)
    texts = list(chains.iter(f"{SVG}text"))
    right = max(float(text.attrib["x"]) for text in texts)
    rows = [text.text or "" for text in texts if float(text.attrib["x"]) == right]
    counted = 0
    for row in rows:
        found = re.fullmatch(r"([\d,]+) (more )?images?( on [\d,]+ bases?)?", row)
        counted += int(found[1].replace(",", "")) if found else 1
    assert counted == len(record.images)
    assert len(rows) <= MOST_ROWS


def _width(rect: ET.Element) -> float:
    return float(rect.attrib["width"])
