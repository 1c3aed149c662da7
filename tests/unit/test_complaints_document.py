"""docs/complaints.md names tests that exist, for every complaint."""

from __future__ import annotations

import re

import pytest

from tests.unit.named_tests import NAMED, functions, named, page

PAGE = page("complaints.md")


def test_every_complaint_names_a_test_and_where_it_was_made() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 18
    assert not [row for row in rows if not NAMED.search(row) or not re.search(r"\w#\d", row)]


@pytest.mark.parametrize(("path", "function", "case"), named(PAGE))
def test_what_is_named_exists(path: str, function: str, case: str) -> None:
    assert function in functions(path)
    assert not case
