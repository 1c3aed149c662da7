"""Credential helpers as real programs: their protocol, and what they may not do to us."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from converter.errors import AuthError
from converter.registry.auth.credential_helper import run_helper
from converter.registry.auth.credentials import Credential, HelperCall

CALL = HelperCall("test", "h:5000", "/some/config.json")
SECRET = "hush-hush"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "docker-credential-test"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def answer(**fields: object) -> str:
    return f"cat > /dev/null; echo '{json.dumps(fields)}'"


def test_it_is_asked_for_the_server(program: Path) -> None:
    script = f"printf '%s ' \"$@\" > {program}.asked; cat >> {program}.asked; "
    write(program, script + f"echo '{json.dumps({'Username': 'ali', 'Secret': SECRET})}'")
    place = "docker-credential-test"
    assert run_helper(CALL) == Credential("ali", SECRET, place=place)
    assert Path(f"{program}.asked").read_text() == "get h:5000"
    write(program, answer(ServerURL="x", Username="<token>", Secret=SECRET))
    assert run_helper(CALL) == Credential(identity_token=SECRET, place=place)


def test_it_may_know_nothing(program: Path) -> None:
    write(program, "echo 'credentials not found in native keychain'; exit 1")
    assert run_helper(CALL) is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "exit code 3"),
        (f"echo {SECRET}; exit 1", "exit code 1"),
        (f"echo {SECRET}", "without a user name and a secret"),
        (answer(Username="ali"), "without a user name and a secret"),
        (answer(Username="ali", Secret=7), "without a user name and a secret"),
        (answer(Username="ali", Secret=""), "without a user name and a secret"),
        ("echo '[]'", "without a user name and a secret"),
        ("yes", "printed more than 65536 bytes"),
        ("exec sleep 60", "longer than 0.2 seconds"),
        ("sleep 60 & wait", "longer than 0.2 seconds"),
        ("exec >&-; sleep 60", "does not end"),
    ],
)
def test_it_fails(program: Path, script: str, said: str) -> None:
    write(program, script)
    # Only those that do not end on their own are given a short time.
    seconds = 0.2 if "sleep" in script else 30.0
    with pytest.raises(AuthError, match=said) as caught:
        run_helper(CALL, timeout_seconds=seconds)
    text = f"{caught.value.what} {caught.value.expected} {caught.value.hint}"
    assert SECRET not in text
    assert CALL.place in text


def test_whatever_it_started_ends_with_it(program: Path, tmp_path: Path) -> None:
    write(program, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(AuthError):
        run_helper(CALL, timeout_seconds=0.5)
    state = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    # Gone, or dead and not yet collected by whoever inherited it.
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_is_not_there(program: Path) -> None:
    assert not program.exists()
    with pytest.raises(AuthError, match="No such file"):
        run_helper(CALL)


@pytest.mark.parametrize("name", ["../evil", "", "a/b", "a b", "-x", "x" * 50 + "\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(AuthError, match="not one of a program"):
        run_helper(HelperCall(name, "h", "/file"))
