"""House rules that no linter knows."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FILES = sorted(
    path
    for folder in ("agent", "converter", "tinykernel", "tests", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)
PRODUCT_FILES = [path for path in PYTHON_FILES if path.relative_to(ROOT).parts[0] != "tests"]


def _names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_modules_say_what_they_own() -> None:
    silent = [path for path in PYTHON_FILES if not ast.get_docstring(ast.parse(path.read_bytes()))]
    assert not silent, "\n".join(_names(silent))


def test_annotations_are_never_evaluated() -> None:
    line = "from __future__ import annotations"
    without = [
        path for path in PYTHON_FILES if _has_annotations(path) and line not in path.read_text()
    ]
    assert not without, "\n".join(_names(without))


def test_public_functions_and_classes_are_described() -> None:
    bare = []
    for path in PRODUCT_FILES:
        tree = ast.parse(path.read_bytes())
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not bare, "\n".join(bare)


def test_every_ignore_has_its_reason() -> None:
    bare = []
    for path in PYTHON_FILES:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for mark in ("# type: ignore", "# noqa"):
                _code, found, rest = line.partition(mark)
                # "[arg-type]  # why" or ": S603  # why" or ": S603 - why"
                if found and not any(sign in rest for sign in ("#", " - ", " (")):
                    bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert not bare, "\n".join(bare)


def test_text_files_are_clean(lacking: Callable[[str], None]) -> None:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    if listed.returncode:
        lacking("not a git checkout, so nothing says which files are ours")
    unclean = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or b"\0" in path.read_bytes() or name.startswith("tests/corpus/"):
            continue  # the fuzzers' inputs are no text, whatever they look like
        text = path.read_bytes().decode()  # all text is UTF-8
        lines = text.split("\n")
        if text and (
            not text.endswith("\n") or any(line != line.rstrip(" \t\r") for line in lines)
        ):
            unclean.append(name)
    assert not unclean, "\n".join(unclean)


def _has_annotations(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse(path.read_bytes())))
