"""docs/diskmap.svg is drawn by today's code, as far as that can be told without the image."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from converter.diskmap.paint import style_sheet
from converter.diskmap.svg import encode_svg
from tests.unit.diskmap.samples import small

ROOT = Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"
LEGEND = 5


def test_the_picture_is_of_today() -> None:
    kept = ET.parse(ROOT / "docs" / "diskmap.svg").getroot()
    assert kept.findtext(f"{SVG}style") == style_sheet()
    assert kept.findtext(f"{SVG}title") == "oci:demo:latest: disk map"
    # What every map has in the same places: the head of the picture, but for the image's name.
    fresh = ET.fromstring(encode_svg(small()))
    assert _legend(kept) == _legend(fresh)
    assert "docs/diskmap.svg" in (ROOT / "README.md").read_text("utf-8")


def _legend(root: ET.Element) -> list[tuple[str | None, ...]]:
    texts = list(root.iter(f"{SVG}text"))[3 : 3 + LEGEND + 1]
    return [(text.text, text.get("x"), text.get("y"), text.get("class")) for text in texts]
