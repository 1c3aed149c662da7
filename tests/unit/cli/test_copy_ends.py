"""The two arguments of cp."""

from __future__ import annotations

import pytest

from converter.cli.cp import End, check_ends, read_end
from converter.errors import UsageError


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("web:/etc", End("/etc", "web")),
        ("web:etc/", End("etc/", "web")),
        ("web:a:b", End("a:b", "web")),
        ("./a:b", End("./a:b")),
        ("../a:b", End("../a:b")),
        ("/a:b", End("/a:b")),
        ("dir/a:b", End("dir/a:b")),
        ("file", End("file")),
        (".", End(".")),
        ("-", End("-")),
        ("web:-", End("-", "web")),
    ],
)
def test_where_an_end_is(text, end):
    assert read_end(text) == end
    assert read_end(text).is_stream is (text == "-")


@pytest.mark.parametrize("text", ["", ":/etc", "web:"])
def test_what_is_no_end(text):
    with pytest.raises(UsageError) as caught:
        read_end(text)
    assert caught.value.expected


def test_one_end_is_in_a_machine():
    here, there = End("f"), End("/f", "web")
    check_ends(here, there)
    check_ends(there, here)
    for ends in ((here, here), (there, there), (End("-"), End("-"))):
        with pytest.raises(UsageError):
            check_ends(*ends)
