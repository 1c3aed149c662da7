"""The options for registries, as one value."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from converter.cli.registries import registry_options
from converter.cli.stdin import claim_stdin
from converter.errors import UsageError
from converter.registry.auth.credentials import Credential
from converter.registry.options import Mirror, RegistryOptions


def access(*arguments: str, stdin: str = "", **environment: str) -> RegistryOptions:
    """Return what a command gets; what it raises comes through."""
    got: list[RegistryOptions] = []

    @click.command()
    @click.option("--also-reads", is_flag=True)
    @registry_options
    def command(*, also_reads: bool, access: RegistryOptions) -> None:
        if also_reads:
            claim_stdin("the command")
        got.append(access)

    CliRunner().invoke(command, arguments, input=stdin, env=environment, catch_exceptions=False)
    return got[0]


def test_nothing_is_asked_for() -> None:
    assert access() == RegistryOptions(pace=access().pace)


def test_everything_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    got = access(
        *("--plain-http", "--no-tls-verify", "--ca-file", str(file), "--authfile", str(file)),
        *("--mirror", "one/a", "--mirror", "http://two", "--retries", "7", "--timeout", "1.5"),
        *("--username", "ali", "--password-stdin"),
        stdin="open sesame\r\n",
    )
    assert got == RegistryOptions(
        plain_http=True,
        tls_verify=False,
        ca_file=file,
        authfile=file,
        retries=7,
        read_timeout_seconds=1.5,
        credential=Credential("ali", "open sesame", place="the command line"),
        mirrors=(Mirror("one", "a"), Mirror("two", plain_http=True)),
        pace=got.pace,
    )
    assert "sesame" not in repr(got)


def test_variables() -> None:
    got = access(SALTFLAT_MIRROR="one two/b", SALTFLAT_RETRIES="0", SALTFLAT_TIMEOUT="9")
    assert got.mirrors == (Mirror("one"), Mirror("two", "b"))
    assert (got.retries, got.read_timeout_seconds) == (0, 9)


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["--username", "ali"], "x", "go together"),
        (["--password-stdin"], "x", "go together"),
        (["--username", "ali", "--password-stdin"], "", "no password"),
        (["--username", "ali", "--password-stdin"], "x" * 70_000, "no password"),
        (["--username", "a:b", "--password-stdin"], "x", "without a colon"),
        (["--username", "ali", "--password-stdin"], "a\nb\n", "no control characters"),
        (["--username", "ali", "--password-stdin", "--also-reads"], "x", "would read standard"),
        (["--mirror", "u:p@h"], "", "not a mirror"),
    ],
)
def test_usage(arguments: list[str], stdin: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        access(*arguments, stdin=stdin)
    assert said in f"{caught.value.what} {caught.value.expected}"
