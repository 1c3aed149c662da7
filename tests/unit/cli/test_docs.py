"""The command's own help and the written pages agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from converter.cli.app import top
from converter.errors import SaltflatError

ROOT = Path(__file__).resolve().parents[3]


def _commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            assert verb is not None
            found += _commands(verb, f"{path} {name}")
    return found


COMMANDS = _commands(top, "saltflat")


def test_cli_page_is_generated_from_the_help() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_every_verb_has_examples_and_every_option_a_help(path: str, command: click.Command) -> None:
    assert "Examples:" in (command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_every_exit_code_of_an_error_is_documented() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
    for error in [SaltflatError, *SaltflatError.__subclasses__()]:
        assert f"| {error.exit_code} | `{error.kind}` |" in page
