"""Names, sizes and strangers' texts as they may stand in XML. Pure.

Names on a disk are bytes and may be hostile: what is no printable text is shown as an escape, so
that nothing of it is markup, moves the reading direction, or hides. Everything has a bound.
"""

from __future__ import annotations

from html import escape
from unicodedata import east_asian_width

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_PREFIXES = ("/bin/sh -c #(nop)", "RUN /bin/sh -c", "/bin/sh -c")  # of docker and BuildKit
_SUFFIX = "# buildkit"
LONGEST = 400  # characters of anything that is shown whole
_WIDE = frozenset("WF")


def size_text(size_bytes: int) -> str:
    """Return a size as people read it: "107.9 MiB", "64 KiB", "0"."""
    for unit, name in _UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size_bytes} B" if size_bytes else "0"


def name_text(name: bytes) -> str:
    """Return a name of a file as printable text, in which a backslash begins an escape."""
    return printable(name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """Return a text with an escape for each character that is not printable."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode-escape", "surrogatepass").decode()
        for one in text
    )


def step_text(created_by: str) -> str:
    """Return what made a layer on one line, without what stands before every such line."""
    line = " ".join(created_by.split())
    for prefix in _PREFIXES:
        if line.startswith(prefix):
            line = line.removeprefix(prefix).strip()
            break
    return printable(line.removesuffix(_SUFFIX).strip())


def fitted(text: str, columns: int, *, keep_end: bool = False) -> str:
    """Return a text that fits in so many columns of a fixed-width font.

    What is too long loses its end; with `keep_end` its middle, and keeps more of its end.
    """
    if _width(text) <= columns:
        return text
    room = columns - 1
    if not keep_end:
        return _head(text, room) + "…"
    head = _head(text, room // 4)
    tail = _head(text[::-1], room - _width(head))[::-1]
    return f"{head}…{tail}"


def bounded(text: str) -> str:
    """Return a text of at most `LONGEST` characters, without its middle if it was longer."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[-half:]}"


def shown(text: str) -> str:
    """Return a stranger's text as it may stand anywhere, with a bound."""
    return bounded(printable(text))


def xml(text: str) -> str:
    """Return printable text as content or attribute of XML and of HTML."""
    return escape(text, quote=True)


def _head(text: str, columns: int) -> str:
    used = 0
    for number, one in enumerate(text):
        used += _width(one)
        if used > columns:
            return text[:number]
    return text


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(one) in _WIDE else 1 for one in text)
