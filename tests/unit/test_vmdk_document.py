"""docs/vmdk.md names tests that exist, and has a row for every format that is read."""

from __future__ import annotations

import re

import pytest

from converter.vmdk import c_vmdk
from tests.unit.named_tests import NAMED, functions, named, page

PAGE = page("vmdk.md")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(("path", "function", "case"), named(PAGE))
def test_what_is_named_exists(path: str, function: str, case: str) -> None:
    assert function in functions(path)
    assert not case


def test_every_row_names_a_test() -> None:
    assert len(ROWS) > 10
    assert not [row for row in ROWS if len(row) != 7 or not NAMED.search("|".join(row))]


def test_every_type_of_disk_has_a_row() -> None:
    types = {value for name, value in vars(c_vmdk).items() if name.startswith("CREATE_TYPE_")}
    named = {word for row in ROWS for word in re.findall(r"`(\w+)`", row[0])}
    assert types - named == set()
