"""docs/vmdk.md names tests that exist, and has a row for every format that is read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from converter.vmdk import c_vmdk

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "vmdk.md").read_text("utf-8")
_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
NAMED = sorted(set(_NAMED.findall(PAGE)))
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(("path", "function"), NAMED)
def test_what_is_named_exists(path: str, function: str) -> None:
    tree = ast.parse((ROOT / "tests" / path).read_bytes())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_names_a_test() -> None:
    assert len(ROWS) > 10
    assert not [row for row in ROWS if len(row) != 7 or not _NAMED.search("|".join(row))]


def test_every_type_of_disk_has_a_row() -> None:
    types = {value for name, value in vars(c_vmdk).items() if name.startswith("CREATE_TYPE_")}
    named = {word for row in ROWS for word in re.findall(r"`(\w+)`", row[0])}
    assert types - named == set()
