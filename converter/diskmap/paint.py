"""Colours of a disk map. Owns which link has which; what all pictures have is drawing's."""

from __future__ import annotations

from converter.drawing import paint


def link_class(number: int) -> str:
    """Return the class of the colour of the link `number`."""
    return f"link{number % len(paint.PALETTE)}"


def style_sheet() -> str:
    """Return the style sheet of the picture."""
    links = "".join(f".link{n}{{fill:{colour}}}" for n, colour in enumerate(paint.PALETTE))
    return paint.style_sheet(links)
