"""The tests that a page of docs names, as `unit/layer/test_tar.py::test_old_types`.

Owns how they are named and whether they exist. Where a test has many cases, one of them may be
named behind it, in brackets.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)(?:\[([^]`]+)\])?`")


def page(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / "docs" / name).read_text("utf-8")


def named(text: str) -> list[tuple[str, str, str]]:
    """Return (path below tests/, function, case or "") of all that a page names, sorted."""
    return sorted(set(NAMED.findall(text)))


@cache
def module(path: str) -> ast.Module:
    """Return the syntax tree of a module below tests/."""
    return ast.parse((ROOT / "tests" / path).read_bytes())


def functions(path: str) -> set[str]:
    """Return the names of a module's own functions."""
    return {node.name for node in module(path).body if isinstance(node, ast.FunctionDef)}
