"""Where a copy lands: the table of `docker cp`'s own manual page, case by case."""

from __future__ import annotations

import pytest

from agent.host.client.landing import (
    Kind,
    Landing,
    Source,
    clean,
    land,
    wants_contents,
    wants_folder,
)
from agent.host.errors import CopyError

FILE = Source("f")
FOLDER = Source("d", is_folder=True)
CONTENTS = Source("d", is_folder=True, contents=True)


@pytest.mark.parametrize(
    ("source", "target", "kind", "folder", "name"),
    [
        # "SRC_PATH specifies a file"
        (FILE, "/srv/new", None, "/srv", "new"),
        (FILE, "new", None, ".", "new"),
        (FILE, "/new", None, "/", "new"),
        (FILE, "/srv/old", Kind.FILE, "/srv", "old"),
        (FILE, "/srv", Kind.FOLDER, "/srv", "f"),
        (FILE, "/srv/", Kind.FOLDER, "/srv/", "f"),
        # "SRC_PATH specifies a directory"
        (FOLDER, "/srv/new", None, "/srv", "new"),
        (FOLDER, "/srv/new/", None, "/srv", "new"),
        (FOLDER, "/srv", Kind.FOLDER, "/srv", "d"),
        (FOLDER, "/", Kind.FOLDER, "/", "d"),
        (CONTENTS, "/srv", Kind.FOLDER, "/srv", None),
        (CONTENTS, "/srv/new", None, "/srv", "new"),
    ],
)
def test_where_it_lands(source, target, kind, folder, name):
    assert land(source, target, kind) == Landing(folder, name)


@pytest.mark.parametrize(
    ("source", "target", "kind", "text"),
    [
        (FILE, "/srv/new/", None, "does not exist"),
        (FILE, "/srv/new/.", None, "does not exist"),
        (FOLDER, "/srv/old", Kind.FILE, "is a file"),
        (CONTENTS, "/srv/old", Kind.FILE, "is a file"),
        (FILE, "/srv/old/", Kind.FILE, "is a file"),
        (FILE, "/dev/null", Kind.OTHER, "neither"),
        (FOLDER, "/dev/null", Kind.OTHER, "neither"),
    ],
)
def test_where_nothing_lands(source, target, kind, text):
    with pytest.raises(CopyError, match=text) as caught:
        land(source, target, kind)
    assert caught.value.expected


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/a/../b", "/b"),
        ("//a//b/", "/a/b/"),
        ("/a/./b/.", "/a/b/."),
        ("/", "/"),
        ("/.", "/."),
        ("/..", "/"),
        (".", "./."),
        ("a/", "a/"),
        ("", "."),
    ],
)
def test_clean(path, cleaned):
    assert clean(path) == cleaned


def test_what_the_end_of_a_path_says():
    ends = ("a", "a/", "a/.", ".", "..", "a/..")
    assert [wants_contents(path) for path in ends] == [False, False, True, True, False, False]
    assert [wants_folder(path) for path in ends] == [False, True, True, True, True, True]
