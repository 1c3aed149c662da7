"""Marker files become what they mean, and only those."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError
from converter.layer.changeset import read_changes
from converter.layer.entry import Entry, Kind


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/.wh.b", [(b"a/b", Kind.WHITEOUT)]),
        (b".wh.b", [(b"b", Kind.WHITEOUT)]),
        (b"a/.wh..wh..opq", [(b"a", Kind.OPAQUE)]),
        (b".wh..wh..opq", [(b"", Kind.OPAQUE)]),
        (b"a/.wh..wh.plnk", []),
        (b"a.wh.b", [(b"a.wh.b", Kind.FILE)]),
        (b".wh.d/b", [(b".wh.d/b", Kind.FILE)]),
        (b".wh..wh.plnk", []),
        (b".wh..wh.aufs", []),
        (b".wh..wh.orph/f", []),
        (b".wh..wh.plnk/f", [(b".wh..wh.plnk/f", Kind.FILE), (b".wh..wh.plnk", Kind.GONE)]),
        (b"a/.wh..wh.plnk/f", [(b"a/.wh..wh.plnk/f", Kind.FILE)]),
        (b"a/.wh.\xff", [(b"a/\xff", Kind.WHITEOUT)]),
    ],
)
def test_markers(path: bytes, expected: list[tuple[bytes, Kind]]) -> None:
    changes = read_changes([Entry(path, Kind.FILE)])
    assert [(change.path, change.kind) for change in changes] == expected


@pytest.mark.parametrize("path", [b".wh.", b"a/.wh..", b"a/.wh..."])
def test_whiteouts_of_nothing_are_refused(path: bytes) -> None:
    with pytest.raises(IntegrityError, match="without a name"):
        list(read_changes([Entry(path, Kind.FILE)]))
