"""The changeset rules of the OCI image specification (layer.md, "Whiteouts").

Turns the archive's marker files into WHITEOUT and OPAQUE entries; owns nothing of the archive
format and nothing of the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.errors import IntegrityError
from converter.layer.entry import Entry, Kind

WHITEOUT_PREFIX = b".wh."
WHITEOUT_META_PREFIX = (
    b".wh..wh."  # AUFS's own files; of these only the opaque marker has a meaning
)
OPAQUE_MARKER = b".wh..wh..opq"
PSEUDO_LINKS = b".wh..wh.plnk"  # in the root: where AUFS kept the files that have several names


def read_changes(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield `entries` with marker files replaced by what they mean. Raises IntegrityError.

    What AUFS left in its own folders is no part of the image, as in Docker; but files in
    `PSEUDO_LINKS` may be what hard links lead to, so they go only after the last entry.
    """
    pseudo_links = False
    for entry in entries:
        if WHITEOUT_PREFIX not in entry.path:
            yield entry
            continue
        top, below, _ = entry.path.partition(b"/")
        if below and top.startswith(WHITEOUT_META_PREFIX):
            if top == PSEUDO_LINKS:
                pseudo_links = True
                yield entry
            continue
        parent, _, name = entry.path.rpartition(b"/")
        if not name.startswith(WHITEOUT_PREFIX):
            yield entry
        elif name == OPAQUE_MARKER:
            yield Entry(parent, Kind.OPAQUE)
        elif not name.startswith(WHITEOUT_META_PREFIX):
            hidden = name[len(WHITEOUT_PREFIX) :]
            if hidden in {b"", b".", b".."}:
                raise IntegrityError(
                    f"The layer has a whiteout without a name: {entry.path!r}.",
                    expected=".wh.NAME or .wh..wh..opq",
                )
            yield Entry(parent + b"/" + hidden if parent else hidden, Kind.WHITEOUT)
    if pseudo_links:
        yield Entry(PSEUDO_LINKS, Kind.GONE)
