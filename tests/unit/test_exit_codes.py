"""The exit codes that we document are the exit codes that we use."""

from __future__ import annotations

import re
from pathlib import Path

import converter.errors
from converter.errors import SaltflatError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"
ROW = re.compile(r"^\| (\d+) \| `?([a-z-]+)`? \|", re.MULTILINE)
NOT_FROM_THE_TREE = {0: "ok", 130: "interrupted", 141: "broken-pipe"}


def test_table_is_the_error_tree() -> None:
    ours = {SaltflatError, *_below(SaltflatError)}
    used = {(kind.exit_code, kind.kind) for kind in ours} | set(NOT_FROM_THE_TREE.items())
    documented = {(int(code), kind) for code, kind in ROW.findall(DOCUMENT.read_text())}
    assert documented == used


def test_each_class_has_its_own_kind() -> None:
    ours = [SaltflatError, *_below(SaltflatError)]
    kinds = [kind.kind for kind in ours if kind.__module__ == converter.errors.__name__]
    assert len(kinds) == len(set(kinds))


def _below(base: type[SaltflatError]) -> set[type[SaltflatError]]:
    return {found for kind in base.__subclasses__() for found in ({kind} | _below(kind))}
