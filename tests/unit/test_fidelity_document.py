"""docs/fidelity.md names tests that exist, and every hostile case that is tested."""

from __future__ import annotations

import ast
import re

import pytest

from tests.unit.named_tests import NAMED, ROOT, functions, module, named, page

PAGE = page("fidelity.md")
HOSTILE = "integration/test_hostile_layers.py"


def _keys(path: str, name: str) -> set[str]:
    """Return the keys of the dictionary `name` of a module."""
    for node in module(path).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key is not None}
    raise AssertionError(f"{path} has no {name}")


def _rows() -> list[list[str]]:
    """Return the cells of all tables' rows but their heads."""
    rows = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, row in enumerate(rows) if set(row[0]) == {"-"}}
    return [
        [cell.strip() for cell in row]
        for number, row in enumerate(rows)
        if number not in heads and set(row[0]) != {"-"}
    ]


def test_every_row_names_a_test() -> None:
    rows = _rows()
    assert len(rows) > 80
    assert not [row for row in rows if not NAMED.search("|".join(row))]


@pytest.mark.parametrize(("path", "function", "case"), named(PAGE))
def test_what_is_named_exists(path: str, function: str, case: str) -> None:
    assert function in functions(path)
    if case:
        table = {"test_broken_members": "BROKEN", "test_damaged_blobs_and_bombs": "DAMAGED"}
        assert case in _keys(path, table[function])


def test_every_hostile_case_is_named() -> None:
    told = {case for path, _, case in named(PAGE) if path == HOSTILE and case}
    assert told == _keys(HOSTILE, "BROKEN") | _keys(HOSTILE, "DAMAGED")


def test_every_soak_that_is_named_exists() -> None:
    soaks = set(re.findall(r"`scripts/soak (\w+)`", PAGE))
    assert soaks
    assert all((ROOT / "scripts" / "soaks" / f"{name}.py").is_file() for name in soaks)
