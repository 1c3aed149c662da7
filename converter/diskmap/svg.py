"""Draw a disk map as SVG. Owns the layout; the same map gives the same bytes.

Links are rows, the top one above, over the space of the disk. The height of a column is the share
of its stretch of the disk that a link holds, so areas are bytes; what is too little to be seen is
drawn as a tick. No script, no font, no reference to anything: the file stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from converter.diskmap.axis import Stretch, amounts, stretches, ticks
from converter.diskmap.model import DiskMap, MapFile, MapLayer, MapLink
from converter.diskmap.paint import link_class, style_sheet
from converter.diskmap.runs import Runs, length
from converter.drawing.text import (
    bounded,
    fitted,
    name_text,
    printable,
    shown,
    size_text,
    step_text,
    xml,
)

_WIDTH = 1120
_LEFT = 32
_BAR_WIDTH = _WIDTH - 2 * _LEFT
_RIGHT = _LEFT + _BAR_WIDTH
_BAR_HEIGHT = 30
_TICK_HEIGHT = 7  # of what would be less
_TICKS_APART = 88
_MARK_APART = 64  # width of "1023.9 MiB"
_MARK_ROOM = 6
_STRIP_TEXT = 40  # width of a strip that has room for its size
_ROW_HEIGHT = 136
_ROW_BAR = 42  # from the row's top
_OVERVIEW = 196
_FIRST_ROW = 246
_FILES_PER_LINE = 3
_FILE_LINE = 16
_MONO = 6.7  # width of a character of the fixed-width font, and a little more
_TITLE = 74  # columns of the widest characters
_LINE = 150  # columns of a line in the page's own font
_KINDS = ("file content", "file system structure", "replaced or deleted above", "unused")
_DIGEST_SHOWN = 19  # sha256: and twelve digits


def encode_svg(disk: DiskMap) -> bytes:
    """Return the map as a file of its own."""
    return (draw(disk) + "\n").encode()


def draw(disk: DiskMap) -> str:
    """Return the map as an SVG element."""
    height = _FIRST_ROW + _ROW_HEIGHT * len(disk.links) + 12
    parts = stretches(disk.held, disk.capacity_bytes, left=_LEFT, width=_BAR_WIDTH)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{xml(shown(disk.reference))}: disk map</title>",
        f"<style>{style_sheet()}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        *_head(disk),
        *_axis(parts, _OVERVIEW - 6),
        *_overview(disk, parts, _OVERVIEW),
    ]
    for row, number in enumerate(reversed(range(len(disk.links)))):
        lines += _row(disk, number, parts, _FIRST_ROW + row * _ROW_HEIGHT)
    return "\n".join([*lines, "</svg>"])


def summary(disk: DiskMap) -> str:
    """Return one line about the whole disk."""
    count = len(disk.links)
    held = sum(link.held_bytes for link in disk.links)
    missing = disk.layers_without_link
    return " · ".join(
        [
            printable(disk.platform),
            f"disk of {size_text(disk.capacity_bytes)}",
            f"{count} link{'s' * (count != 1)} of {disk.layer_count} "
            f"layer{'s' * (disk.layer_count != 1)}",
            *([f"{missing} that change{'s' * (missing == 1)} nothing"] if missing else []),
            f"{size_text(held)} held, in files of "
            f"{size_text(sum(link.file_bytes for link in disk.links))}",
        ]
    )


def layers_text(layers: Sequence[MapLayer], count: int) -> str:
    """Return which of `count` layers a link covers."""
    if len(layers) == 1:
        return f"layer {layers[0].number} of {count}"
    return f"layers {layers[0].number} to {layers[-1].number} of {count}"


def digest_text(digest: str) -> str:
    """Return the beginning of a digest, which tells it from others well enough for people."""
    return printable(digest[:_DIGEST_SHOWN])


def contents_text(link: MapLink) -> str:
    """Return how much a link holds of each kind; what it has nothing of is left out."""
    amounts_ = zip(_KINDS, map(length, link.contents), strict=True)
    return " · ".join(f"{size_text(amount)} {kind}" for kind, amount in amounts_ if amount)


def _head(disk: DiskMap) -> Iterator[str]:
    yield _text(_LEFT, 46, "title ink", fitted(shown(disk.reference), _TITLE, keep_end=True))
    yield _text(_LEFT, 70, "mono dim", fitted(shown(disk.digest), _LINE))
    yield _text(_LEFT, 90, "dim", fitted(summary(disk), _LINE))
    x = _LEFT
    top = link_class(len(disk.links) - 1)
    classes = (top, "structure", f"{top} replaced", "unused")
    for class_, kind in zip(
        classes, (f"{_KINDS[0]}, in the link's colour", *_KINDS[1:]), strict=True
    ):
        yield f'<rect class="{class_}" x="{x}" y="110" width="12" height="12" rx="2"/>'
        yield _text(x + 18, 120, "dim", kind)
        x += 42 + 7 * len(kind)
    yield f'<rect class="strip" x="{x}" y="110" width="12" height="12" rx="2"/>'
    yield _text(x + 18, 120, "dim", "not to scale: next to nothing there")


def _axis(parts: Sequence[Stretch], y: int) -> Iterator[str]:
    """Write offsets above the axis at `y`, and above these what the strips stand for."""
    for x, offset in _marks(parts):
        yield _text(x, y - 4, "small dim", size_text(offset))
    for part in parts:
        if part.is_strip and part.right - part.left >= _STRIP_TEXT:
            size = size_text(part.end - part.begin)
            yield _text((part.left + part.right) // 2, y - 18, "small dim middle", size)


def _marks(parts: Sequence[Stretch]) -> list[tuple[float, int]]:
    """Return place and offset of what the axis names."""
    found: list[tuple[float, int]] = []
    for part in parts:
        if part.is_strip:
            continue
        for offset in [part.begin, *ticks(part, apart=_TICKS_APART)]:
            x = round(part.place(offset), 1)
            if part.right - x > _MARK_ROOM and (not found or x >= found[-1][0] + _MARK_APART):
                found.append((x, offset))
    return found


def _overview(disk: DiskMap, parts: Sequence[Stretch], y: int) -> Iterator[str]:
    """Draw which link the finished disk is read from."""
    yield _text(_LEFT, 152, "name ink", "The disk as a machine reads it")
    yield from _tracks(parts, y)
    visible = [link.visible for link in disk.links]
    for number, path in enumerate(_columns(visible, parts, y)):
        if path:
            title = f"{size_text(length(visible[number]))} from link {number + 1}"
            yield _shape(link_class(number), path, title)


def _row(disk: DiskMap, number: int, parts: Sequence[Stretch], y: int) -> Iterator[str]:
    link = disk.links[number]
    class_ = link_class(number)
    yield f'<rect class="{class_}" x="{_LEFT}" y="{y + 3}" width="12" height="12" rx="2"/>'
    yield _text(_LEFT + 20, y + 14, "name ink", f"Link {number + 1}")
    where = layers_text(link.layers, disk.layer_count)
    digests = [digest_text(layer.digest) for layer in link.layers]
    steps = [step_text(layer.created_by) for layer in link.layers]
    yield _text(_LEFT + 84, y + 14, "dim", where)
    others = f" and {len(digests) - 1} more" if len(digests) > 1 else ""
    yield _text(_LEFT + 216, y + 14, "mono dim", digests[-1] + others)
    yield _text(_RIGHT, y + 14, "name ink end", size_text(link.file_bytes))
    told = " · ".join(filter(None, steps)) or "no history"
    columns = int(_BAR_WIDTH / _MONO)
    full = "\n".join(
        bounded(f"{layer.number}: {layer.digest} {step}")
        for layer, step in zip(link.layers, steps, strict=True)
    )
    yield _text(_LEFT, y + 33, "mono ink", fitted(told, columns), title=full)
    bar = y + _ROW_BAR
    yield from _tracks(parts, bar)
    classes = (class_, "structure", f"{class_} replaced", "unused")
    paths = _columns(link.contents, parts, bar)
    for kind, kind_class, runs, path in zip(_KINDS, classes, link.contents, paths, strict=True):
        if path:
            yield _shape(kind_class, path, f"Link {number + 1}: {size_text(length(runs))} {kind}")
    below = bar + _BAR_HEIGHT + 15
    yield _text(_LEFT, below, "small dim", contents_text(link))
    yield from _files(link.heaviest, below + _FILE_LINE)


def _files(files: Sequence[MapFile], y: int) -> Iterator[str]:
    room = _BAR_WIDTH // _FILES_PER_LINE
    columns = int((room - 84) / _MONO)
    for number, file in enumerate(files[: 2 * _FILES_PER_LINE]):
        x = _LEFT + number % _FILES_PER_LINE * room
        line = y + number // _FILES_PER_LINE * _FILE_LINE
        yield _text(x + 58, line, "mono dim end", size_text(file.held_bytes))
        whole = bounded(name_text(file.path))
        class_, title = "mono ink", whole
        if file.gone:
            class_, title = "mono dim", f"{whole} (not in the finished disk)"
        shown = fitted(whole, columns - 2 * file.gone, keep_end=True)
        yield _text(x + 66, line, class_, f"✕ {shown}" if file.gone else shown, title=title)


def _tracks(parts: Sequence[Stretch], y: int) -> Iterator[str]:
    for part in parts:
        class_ = "strip" if part.is_strip else "track"
        width = part.right - part.left
        place = f'x="{part.left}" y="{y}" width="{width}" height="{_BAR_HEIGHT}"'
        yield f'<rect class="{class_}" {place}/>'
    rules = "".join(f"M{x:g} {y - 3}v{_BAR_HEIGHT + 6}" for x, _ in _marks(parts))
    yield f'<path class="rule" d="{rules}"/>'


def _columns(kinds: Sequence[Runs], parts: Sequence[Stretch], y: int) -> list[str]:
    """Return one path for each of `kinds`, stacked in their order from the bottom of a bar."""
    paths: list[list[str]] = [[] for _ in kinds]
    bottom = y + _BAR_HEIGHT
    for part in parts:
        columns = list(part.columns())
        heights = zip(*(amounts(part, runs) for runs in kinds), strict=True)
        pending: tuple[int, ...] = ()
        begun = 0
        for (left, begin, end), held in zip(columns, heights, strict=True):
            stack = _stack(held, max(end - begin, 1))
            if stack != pending:
                _fill(paths, pending, begun, left, bottom)
                pending, begun = stack, left
        _fill(paths, pending, begun, part.right, bottom)
    return ["".join(path) for path in paths]


def _fill(
    paths: list[list[str]], stack: tuple[int, ...], left: int, right: int, bottom: int
) -> None:
    """Add rectangles of the heights in `stack`, one on the other, to their paths."""
    for path, height in zip(paths, stack, strict=bool(stack)):
        if height:
            width = right - left
            path.append(f"M{left} {bottom}h{width}v-{height}h-{width}z")
            bottom -= height


def _stack(held: tuple[int, ...], span: int) -> tuple[int, ...]:
    """Return heights for amounts of a stretch of `span` bytes: whole units, in all as they should.

    What there is at all has the height of a tick at least, all kinds together.
    """
    total = sum(held)
    if not total:
        return (0,) * len(held)
    height = max((2 * _BAR_HEIGHT * total + span) // (2 * span), _TICK_HEIGHT)
    heights, below, edge = [], 0, 0
    for amount in held:
        below += amount
        above = (2 * height * below + total) // (2 * total)
        heights.append(above - edge)
        edge = above
    return tuple(heights)


def _shape(class_: str, path: str, title: str) -> str:
    return f'<path class="{class_}" d="{path}"><title>{xml(title)}</title></path>'


def _text(x: float, y: int, class_: str, text: str, *, title: str = "") -> str:
    told = f"<title>{xml(title)}</title>" if title else ""
    return f'<text class="{class_}" x="{x:g}" y="{y}">{told}{xml(text)}</text>'
