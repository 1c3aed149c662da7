"""One thing done to each of several machines."""

from __future__ import annotations

import threading

import pytest

from converter.cli.each import for_each
from converter.cli.output import Output
from converter.errors import NotFoundError, UsageError


def act(name):
    if name.startswith("bad"):
        raise UsageError(f"{name} is bad.", hint="Name a good one.")
    return name.upper()


def test_the_error_of_a_single_one_is_the_commands(capsys):
    with pytest.raises(NotFoundError):
        for_each(Output(), ["x"], _missing)
    assert for_each(Output(), ["none"], lambda _name: None) == 0
    assert for_each(Output(), ["a"], act) == 0
    assert capsys.readouterr().out == "A\n"


def _missing(name):
    raise NotFoundError(f"There is no machine {name}.")


@pytest.mark.parametrize("together", [False, True])
def test_the_others_are_done_and_the_code_is_one(capsys, together):
    names = ["a", "bad1", "b", "bad2", "c"]
    assert for_each(Output(), names, act, together=together) == 1
    said = capsys.readouterr()
    assert said.out == "A\nB\nC\n"
    assert [line for line in said.err.splitlines() if line.startswith("Error")] == [
        "Error: bad1 is bad.",
        "Error: bad2 is bad.",
    ]


def test_together_none_waits_for_another(capsys):
    everybody = threading.Barrier(3, timeout=20)
    assert (
        for_each(Output(), ["a", "b", "c"], lambda n: f"{n}{everybody.wait() * 0}", together=True)
        == 0
    )
    assert capsys.readouterr().out == "a0\nb0\nc0\n"


def test_a_fault_of_ours_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        for_each(Output(), ["a", "b"], lambda _name: str(1 // 0), together=True)
