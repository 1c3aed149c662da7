"""A page with the disk map and everything in it as a table. Owns the page; the picture is svg's."""

from __future__ import annotations

from collections.abc import Iterator

from converter.diskmap.model import DiskMap, MapLink
from converter.diskmap.runs import length
from converter.diskmap.svg import digest_text, draw, layers_text
from converter.drawing.page import encode_page
from converter.drawing.text import bounded, name_text, shown, size_text, step_text, xml

_COLUMNS = (
    "link",
    "file",
    "content",
    "structure",
    "replaced",
    "unused",
    "made by",
    "heaviest files",
)


def encode_html(disk: DiskMap) -> bytes:
    """Return the map as a page of its own, which is well-formed XML too."""
    return encode_page(f"{shown(disk.reference)}: disk map", _body(disk))


def _body(disk: DiskMap) -> Iterator[str]:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    yield draw(disk)
    yield "<section>"
    yield f"<table><thead><tr>{head}</tr></thead>"
    yield "<tbody>"
    for number in reversed(range(len(disk.links))):
        yield from _row(disk, number, disk.links[number])
    yield "</tbody></table>"
    yield "</section>"


def _row(disk: DiskMap, number: int, link: MapLink) -> Iterator[str]:
    where = layers_text(link.layers, disk.layer_count)
    yield "<tr>"
    identity = _shown(link.link_id)
    yield f'<td title="link id {identity}"><b>{number + 1}</b><br/>{where}</td>'
    for size_bytes in (link.file_bytes, *map(length, link.contents)):
        yield f'<td class="size" title="{size_bytes} bytes">{size_text(size_bytes)}</td>'
    yield "<td><ul>"
    for layer in link.layers:
        step = xml(bounded(step_text(layer.created_by)))
        yield (
            f'<li title="{_shown(layer.digest)}, diffID {_shown(layer.diff_id)}">{step} '
            f"<code>{xml(digest_text(layer.digest))}</code></li>"
        )
    yield "</ul></td>"
    yield "<td><ul>"
    for file in link.heaviest:
        path = xml(bounded(name_text(file.path)))
        shown = f"<s>{path}</s>" if file.gone else path
        yield f"<li>{size_text(file.held_bytes)} <code>{shown}</code></li>"
    yield "</ul></td>"
    yield "</tr>"


def _shown(text: str) -> str:
    return xml(shown(text))
