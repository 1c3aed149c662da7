"""The picture and the page: well-formed, bounded, harmless, and true to what they draw."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from converter.diskmap.html import encode_html
from converter.diskmap.model import DiskMap
from converter.diskmap.svg import contents_text, encode_svg, summary
from converter.drawing.text import fitted, name_text, size_text, step_text
from tests.unit.diskmap.samples import HOSTILE, MIB, largest, small

SVG = "{http://www.w3.org/2000/svg}"
RECTANGLE = re.compile(r"M(\d+) (\d+)h(\d+)v-(\d+)h-(\d+)z")
# What SVG 1.1 and HTML have and these two use; anything else would be a surprise.
ELEMENTS = {"svg", "title", "style", "rect", "path", "text"}
PAGE_ELEMENTS = ELEMENTS | {
    *("html", "head", "meta", "body", "section", "table", "thead", "tbody", "tr", "th", "td"),
    *("ul", "li", "code", "b", "s", "br"),
}
VOID = {"meta", "br"}


@pytest.mark.parametrize("disk", [small(), largest()], ids=["small", "largest"])
def test_both_are_well_formed_and_bounded(disk: DiskMap) -> None:
    picture, page = encode_svg(disk), encode_html(disk)
    assert len(picture) < 1_000_000
    assert len(page) < 1_100_000
    assert {element.tag for element in ET.fromstring(picture).iter()} == {SVG + e for e in ELEMENTS}
    found = {element.tag.removeprefix(SVG) for element in ET.fromstring(page).iter()}
    assert found == PAGE_ELEMENTS
    assert (encode_svg(disk), encode_html(disk)) == (picture, page)
    # Neither fetches anything, nor is any part of it a program.
    for raw in (picture, page):
        assert not re.search(rb"<script|<!\[|href|src=|url\(|@import|\son\w+=|javascript:", raw)
    assert raw.count(b"prefers-color-scheme:dark") == 2


def test_the_page_is_the_same_tree_to_a_reader_of_html() -> None:
    """XML and HTML differ in what closes an element; the page must not depend on it."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__(convert_charrefs=True)
            self.open: list[str] = []
            self.seen: Counter[str] = Counter()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen[tag] += 1
            if tag not in VOID:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            # HTML itself closes these alone; in the picture, which is foreign to it, any may.
            assert tag in VOID or "svg" in self.open
            self.seen[tag] += 1

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    page = encode_html(small())
    reader = Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == []
    tree = Counter(each.tag.removeprefix(SVG) for each in ET.fromstring(page).iter())
    assert reader.seen == tree


def test_names_cannot_be_mistaken_for_anything_else() -> None:
    assert [name_text(name)[:60] for name in HOSTILE] == [
        '</title><script>alert("1")</script>&amp;',
        "\\xff\\xfe not UTF-8",
        "\\x1b[31mred\\x00\\x07\\n\\t",
        "\\u202egnp.exe \\u2066\\ufeff\\U000e0001",
        ("wide \u6f22\u5b57" * 100)[:60],
        "d" * 60,
        "back\\\\x41slash",
        "]]><!--",
    ]
    root = ET.fromstring(encode_svg(small()))
    titles = {element.text for element in root.iter(f"{SVG}title")}
    assert '</title><script>alert("1")</script>&amp;' in titles
    assert "\\xff\\xfe not UTF-8 (not in the finished disk)" in titles
    texts = [element.text or "".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert all(text.isprintable() or "\n" in text for text in texts)


def test_areas_are_bytes() -> None:
    """64 MiB with little between what is held: one scale, so areas can be summed up."""
    disk = small()
    root = ET.fromstring(encode_svg(disk))
    areas = {}
    for path in root.iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        if title is not None and title.text is not None:
            boxes = RECTANGLE.findall(path.attrib["d"])
            assert (
                "".join(f"M{x} {y}h{w}v-{h}h-{v}z" for x, y, w, h, v in boxes) == path.attrib["d"]
            )
            areas[title.text] = sum(int(w) * int(h) for _, _, w, h, _ in boxes)
    content = areas["Link 1: 12 MiB file content"]
    scale = content / (12 * MIB)
    assert areas["Link 2: 1 MiB file content"] == pytest.approx(scale * MIB, rel=0.15)
    assert areas["Link 1: 1 MiB file system structure"] == pytest.approx(scale * MIB, rel=0.15)
    assert areas["Link 1: 1 MiB replaced or deleted above"] == pytest.approx(scale * MIB, rel=0.15)
    # Too little to be seen, but there.
    assert areas["Link 2: 4 KiB file system structure"] > 1.5 * scale * 4096


def test_what_stands_in_words() -> None:
    disk = small()
    assert summary(disk) == (
        "linux/amd64 · disk of 64 MiB · 2 links of 3 layers · 1 that changes nothing · "
        "15 MiB held, in files of 10 MiB"
    )
    assert contents_text(disk.links[1]) == "1 MiB file content · 4 KiB file system structure"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0"), (512, "512 B"), (65536, "64 KiB"), (113180672, "107.9 MiB"), (16 << 30, "16 GiB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("created_by", "text"),
    [
        ('/bin/sh -c #(nop)  CMD ["bash"]', 'CMD ["bash"]'),
        ("RUN /bin/sh -c apt-get  update\n  && true # buildkit", "apt-get update && true"),
        ("COPY a b # buildkit", "COPY a b"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("", ""),
    ],
)
def test_steps(created_by: str, text: str) -> None:
    assert step_text(created_by) == text


def test_what_does_not_fit_loses_its_middle_or_its_end() -> None:
    assert fitted("usr/lib/x86_64/libc.so.6", 12, keep_end=True) == "us…libc.so.6"
    assert fitted("apt-get install", 8) == "apt-get…"
    assert fitted("\u6f22\u5b57\u6f22", 5) == "\u6f22\u5b57…"
    assert fitted("fits", 4) == "fits"
