"""Colours and fonts of a disk map. Owns the style sheet, light and dark; nothing is fetched."""

from __future__ import annotations

# Of middle brightness, so that they stand on white and on black; neighbours differ for people who
# do not tell red from green.
LINK_COLOURS = (
    *("#3f7fc4", "#e5812f", "#3d9e73", "#b65fb0", "#c9a227"),
    *("#5b6fd0", "#d2605a", "#2a9fb0", "#8a8f2e", "#a9745b"),
)

_PAPER = """
.paper{fill:#fff}.ink{fill:#1b2430}.dim{fill:#5d6b7a}.rule{stroke:#d5dbe1;fill:none}
.track{fill:#eef1f4}.strip{fill:#dfe4e9}.structure{fill:#6c7a89}.unused{fill:#b3bdc7}
"""
_DARK = """
.paper{fill:#10151b}.ink{fill:#e8edf2}.dim{fill:#98a5b3}.rule{stroke:#333d48;fill:none}
.track{fill:#1c232b}.strip{fill:#29323c}.structure{fill:#8997a6}.unused{fill:#515d69}
"""
_FONTS = """
text{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
.mono{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:11px}
.title{font-size:20px;font-weight:600}.name{font-size:14px;font-weight:600}
.small{font-size:11px}.end{text-anchor:end}.middle{text-anchor:middle}.replaced{fill-opacity:.35}
"""


def link_class(number: int) -> str:
    """Return the class of the colour of the link `number`."""
    return f"link{number % len(LINK_COLOURS)}"


def style_sheet() -> str:
    """Return the style sheet of the picture."""
    links = "".join(f".link{n}{{fill:{colour}}}" for n, colour in enumerate(LINK_COLOURS))
    dark = _DARK.replace("\n", "")
    return f"{_FONTS}{_PAPER}{links}\n@media(prefers-color-scheme:dark){{{dark}}}\n"
