"""Docker's words that are not here: none is one of ours, and what is advised exists."""

from __future__ import annotations

import re

import click
import pytest

from converter.cli.app import run_command_line, top
from converter.cli.docker_words import OPTIONS, VERBS

CONTEXT = click.Context(top)
EVERY_ADVICE = [*VERBS.values(), *(text for each in OPTIONS.values() for text in each.values())]


def _command(*path: str) -> click.Command:
    command: click.Command = top
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(CONTEXT, name)
        assert found is not None, path
        command = found
    return command


def _options(command: click.Command) -> set[str]:
    """What an option of this command may begin with."""
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def test_no_word_is_one_of_ours() -> None:
    assert not set(VERBS) & set(top.list_commands(CONTEXT))
    for verb, words in OPTIONS.items():
        assert not set(words) & _options(_command(*verb.split())), verb


def test_what_is_advised_exists() -> None:
    for advice in EVERY_ADVICE:
        for verb, below in re.findall(r"saltflat ([a-z]+)(?: (ls|gc))?", advice):
            _command(verb, below) if below else _command(verb)
    ours = _options(_command("run"))
    for advice in OPTIONS["run"].values():
        assert set(re.findall(r"--[a-z-]+", advice)) <= ours, advice


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["images"], 2, "Next: saltflat store ls\n"),
        (["verfiy"], 2, "Next: saltflat verify\n"),
        (["--store", "./store", "ps"], 2, "Next: It stands behind the verb"),
        (["volume", "create", "-d", "local"], 2, "Next: A volume is a disk of its own"),
        (["run", "--gpus", "all", "debian:12"], 125, "Next: A machine has a kernel of its own"),
    ],
)
def test_the_advice_is_the_last_line(
    arguments: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["saltflat", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == code
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert lines[-1].startswith(said)
    assert "Did you mean" not in "".join(lines)
