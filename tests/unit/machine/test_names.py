"""Names of machines, and the supervisor's start, which every run waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.errors import UsageError
from converter.machine.names import NAME_RULE, check_name, new_name

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["db", "a1", "Web.1_x-y", "0a"])
def test_dockers_names_are_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "a", "_a", "-rm", ".x", "a/b", "a b", "db\n", "é1", "a:b"])
def test_others_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        check_name(name)


def test_new_names_are_names_and_new_however_many_there_are() -> None:
    taken: set[str] = set()
    for _ in range(3000):  # more than there are pairs of words
        name = new_name(taken)
        assert NAME_RULE.fullmatch(name)
        assert name not in taken
        taken.add(name)


def test_a_supervisor_needs_nothing_that_is_installed_and_nothing_slow() -> None:
    program = (
        "import converter.machine.supervisor, sys\n"
        "slow = {'click', 'requests', 'rich', 'oras', 'zstandard', 'ssl', 'http', 'asyncio'}\n"
        "print(sorted(slow & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
