"""A page that stands for itself: one file that fetches nothing and runs nothing. Owns its frame."""

from __future__ import annotations

from collections.abc import Iterable

from converter.drawing.paint import PAGE
from converter.drawing.text import xml

# No part of a page that shows strangers' names is ever a program, or fetches anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def encode_page(title: str, body: Iterable[str], *, style: str = "") -> bytes:
    """Return the file, which is well-formed XML too; `style` is added to what all pages have.

    `title` is text, `body` lines of XML.
    """
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{xml(_POLICY)}"/>',
        '<meta name="viewport" content="width=device-width"/>',
        f"<title>{xml(title)}</title>",
        f"<style>{PAGE}{style}</style>",
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(lines).encode()
