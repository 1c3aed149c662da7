"""-e and --env-file as docker reads them."""

from __future__ import annotations

import pytest

from converter.cli.environment import read_environment
from converter.errors import UsageError


@pytest.fixture(autouse=True)
def callers(monkeypatch):
    monkeypatch.setenv("HERE", "caller's")
    monkeypatch.delenv("GONE", raising=False)


def test_a_key_alone_is_the_callers_or_takes_the_images_away():
    assert read_environment(["A=1", "HERE", "GONE", "EMPTY=", "E=a=b"]) == (
        "A=1",
        "HERE=caller's",
        "GONE",
        "EMPTY=",
        "E=a=b",
    )


def test_a_file_comes_before_what_is_typed(tmp_path):
    file = tmp_path / "env"
    file.write_bytes(
        b"\xef\xbb\xbf# a comment\n\nA=from file\r\n  B= kept \n#C=1\nHERE\nGONE\nD=#no comment"
    )
    assert read_environment(["A=typed"], [file]) == (
        "A=from file",
        "B= kept ",
        "HERE=caller's",
        "D=#no comment",
        "A=typed",
    )


@pytest.mark.parametrize("setting", ["", "=x", " A=1", "A =1"])
def test_what_names_no_variable(setting):
    with pytest.raises(UsageError, match="names no variable"):
        read_environment([setting])


def test_a_fault_in_a_file_is_found_by_its_line(tmp_path):
    (tmp_path / "env").write_text("A=1\n=2\n")
    with pytest.raises(UsageError, match="line 2"):
        read_environment([], [tmp_path / "env"])
    (tmp_path / "env").write_bytes(b"A=\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        read_environment([], [tmp_path / "env"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_environment([], [tmp_path / "none"])
