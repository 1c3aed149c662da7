"""docs/complaints.md names tests that exist, for every complaint."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "complaints.md").read_text("utf-8")
_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
NAMED = sorted(set(_NAMED.findall(PAGE)))


def test_every_complaint_names_a_test_and_where_it_was_made() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 18
    assert not [row for row in rows if not _NAMED.search(row) or not re.search(r"\w#\d", row)]


@pytest.mark.parametrize(("path", "function"), NAMED)
def test_what_is_named_exists(path: str, function: str) -> None:
    tree = ast.parse((ROOT / "tests" / path).read_bytes())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
