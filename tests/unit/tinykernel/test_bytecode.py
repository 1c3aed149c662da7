"""Compiled modules: importable in their source's place, and the same bytes every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from tinykernel.bytecode import can_compile_for, compile_modules, compiler_version

SOURCES = [
    ("/lib/one.py", b"NAMES = {'a', 'b', 'c'}\ndef f(x): return x in {'p', 'q', 'r', 's'}\n"),
    ("/lib/two.py", b"import one\nVALUE = ('a', one.f('q'))\n"),
]


def test_two_runs_give_the_same_bytes() -> None:
    assert compile_modules(SOURCES) == compile_modules(SOURCES)


def test_an_interpreter_imports_them_without_sources(tmp_path: Path) -> None:
    for (name, _), data in zip(SOURCES, compile_modules(SOURCES), strict=True):
        (tmp_path / Path(name).with_suffix(".pyc").name).write_bytes(data)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import two;"
        "print(two.VALUE, two.one.f.__code__.co_filename)"
    )
    result = subprocess.run(
        [sys.executable, "-ISB", "-c", program, str(tmp_path)],
        capture_output=True,
        check=True,
        timeout=20,
        text=True,
    )
    assert result.stdout == "('a', True) /lib/one.py\n"


def test_a_source_that_does_not_compile_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="SyntaxError"):
        compile_modules([("/x.py", b"def (")])


def test_bytecode_is_for_one_minor_version() -> None:
    major, minor, _ = compiler_version().split(".")
    assert can_compile_for(f"{major}.{minor}")
    assert not can_compile_for(f"{major}.{int(minor) + 1}")
