"""Draw what the bench of boots found: where the time of each boot goes, as an SVG of bars.

    scripts/bench boot --format json | python -m scripts.benches.boot_parts.chart >docs/boot.svg

Owns the drawing alone; no library draws better what is four rectangles.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from xml.sax.saxutils import escape

_WIDTH, _BAR, _GAP, _LEFT, _TOP = 760, 26, 14, 110, 40
_SECONDS_WIDTH = 560  # of the longest bar
# Mark at its end -> what the time before it goes to, and a colour that tells without its neighbour.
_OURS = (
    ("bare init", "kernel, to a busybox init", "#4c72b0"),
    ("first frame", "our initramfs, Python, tether", "#dd8452"),
    ("first byte", "disk, namespaces, the process", "#55a868"),
)
_BARE = (("bare init", "", "#4c72b0"), ("bare first byte", "", "#8c8c8c"))


def draw(seconds: dict[str, float]) -> str:
    """Return the SVG of the bench's "virtual seconds"."""
    flavours = sorted({name.partition(":")[0] for name in seconds})
    longest = max(seconds.values())
    bars = [bar for flavour in flavours for bar in ((flavour, _OURS), (f"{flavour} bare", _BARE))]
    height = _TOP + len(bars) * (_BAR + _GAP) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *_legend(),
    ]
    for number, (name, stages) in enumerate(bars):
        top = _TOP + number * (_BAR + _GAP)
        lines += _bar(name, stages, seconds, top=top, scale=_SECONDS_WIDTH / longest)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    left = _LEFT
    for _mark, what, colour in _OURS:
        yield f'<rect x="{left}" y="10" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{left + 17}" y="21">{escape(what)}</text>'
        left += 30 + 7 * len(what)


def _bar(
    name: str,
    stages: tuple[tuple[str, str, str], ...],
    seconds: dict[str, float],
    *,
    top: int,
    scale: float,
) -> Iterator[str]:
    middle = top + _BAR / 2 + 5
    yield f'<text x="{_LEFT - 8}" y="{middle:g}" text-anchor="end">{escape(name)}</text>'
    at = 0.0
    for mark, _what, colour in stages:
        end = seconds[f"{name.partition(' ')[0]}: {mark}"]
        left, width = _LEFT + at * scale, (end - at) * scale
        yield (
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        )
        at = end
    yield f'<text x="{_LEFT + at * scale + 6:.1f}" y="{middle:g}">{at:.2f} s</text>'


if __name__ == "__main__":
    sys.stdout.write(draw(json.load(sys.stdin)["virtual seconds"]))
