"""References: the golden table, and what must hold for any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import UsageError
from converter.image.reference import (
    BundleReference,
    LayoutReference,
    RegistryReference,
    parse_source,
)

TABLE = Path(__file__).resolve().parents[2] / "golden" / "references.tsv"
ROWS = [
    tuple(line.split("\t"))
    for line in TABLE.read_text().splitlines()
    if line and not line.startswith("#")
]


def test_the_table_is_whole() -> None:
    assert len(ROWS) >= 40
    assert all(len(row) == 2 for row in ROWS)


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[row[0][:40] for row in ROWS])
def test_golden(text: str, expected: str) -> None:
    if not expected.startswith("error: "):
        assert str(parse_source(text)) == expected
        return
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert expected.removeprefix("error: ") in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "a\0b", "\x1b[2J", "oci:a\tb", "/a\udc80"])
def test_what_no_table_can_hold(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)


def test_parts() -> None:
    reference = parse_source("index.docker.io/debian:12")
    assert reference == RegistryReference("docker.io", "library/debian", "12")
    assert isinstance(reference, RegistryReference)
    assert reference.api_host == "registry-1.docker.io"
    assert reference.identifier == "12"
    other = parse_source("localhost:5000/a@sha256:" + "0" * 64)
    assert isinstance(other, RegistryReference)
    assert (other.api_host, other.tag) == ("localhost:5000", None)
    assert other.identifier == "sha256:" + "0" * 64
    assert parse_source("oci:/a:b:c") == LayoutReference(Path("/a"), "b:c")
    assert parse_source("bundle:x/y") == BundleReference(Path("x/y"))


@given(st.text(alphabet="aB0.:/@-_[]%", max_size=24) | st.text(max_size=12))
def test_the_canonical_form_means_the_same(text: str) -> None:
    try:
        reference = parse_source(text)
    except UsageError:
        return
    assert parse_source(str(reference)) == reference
