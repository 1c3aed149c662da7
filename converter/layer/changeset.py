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


def read_changes(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield `entries` with marker files replaced by what they mean. Raises IntegrityError."""
    for entry in entries:
        if WHITEOUT_PREFIX not in entry.path:
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
