"""Pieces of SVG that the pictures of a batch have in common, and their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converter.batch.plan import TaskKind
from converter.drawing import paint
from converter.drawing.text import xml

WIDTH = 1120
LEFT = 32
RIGHT = WIDTH - LEFT
MONO = 6.7  # width of a character of the fixed-width font, and a little more

KINDS = {kind: f"kind{number}" for number, kind in enumerate(TaskKind)}
FAILED, LOST = "failed", "lost"
# Words on a colour that is neither dark nor light have an outline, or they could not be read.
_OWN = """
.failed{fill:#c22f2f}.lost{fill:#8997a6;fill-opacity:.6}
.light{fill:#fff;font-size:11px;paint-order:stroke;stroke:#1b243099;stroke-width:2px}
"""


def chain_class(number: int) -> str:
    """Return the class of the colour of what stands on the base `number`."""
    return f"base{number % len(paint.PALETTE)}"


def style_sheet() -> str:
    """Return the style sheet of both pictures."""
    kinds = "".join(
        f".{class_}{{fill:{colour}}}"
        for class_, colour in zip(KINDS.values(), paint.PALETTE, strict=False)
    )
    bases = "".join(f".base{n}{{fill:{colour}}}" for n, colour in enumerate(paint.PALETTE))
    return paint.style_sheet(kinds + bases + _OWN)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the usual width: its height, and the elements in it."""

    title: str
    height: int
    lines: Sequence[str]

    def element(self, *, top: int = 0) -> str:
        """Return it as an SVG element, that begins at `top` of one around it."""
        place = f' y="{top}"' if top else ""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg"{place} '
                f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}" '
                'role="img">',
                f"<title>{xml(self.title)}</title>",
                f"<style>{style_sheet()}</style>",
                f'<rect class="paper" width="{WIDTH}" height="{self.height}"/>',
                *self.lines,
                "</svg>",
            ]
        )


def text(x: float, y: float, class_: str, words: str, *, title: str = "") -> str:
    """Return words at a place; with a `title` that is shown to who points at them."""
    told = f"<title>{xml(title)}</title>" if title else ""
    return f'<text class="{class_}" x="{x:g}" y="{y:g}">{told}{xml(words)}</text>'


def box(class_: str, x: float, y: float, width: float, height: float, *, title: str = "") -> str:
    """Return a rectangle; places are rounded to a tenth."""
    place = f'x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
    if not title:
        return f'<rect class="{class_}" {place}/>'
    return f'<rect class="{class_}" {place}><title>{xml(title)}</title></rect>'


def count(number: int, what: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Return a time as people read it: 0.3 s, 2 s, 3:05 min, 1:02:03 h."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _number(value: float) -> str:
    return f"{round(value, 1):g}"
