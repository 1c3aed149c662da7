"""Options that say how to reach a registry, for every verb that does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from converter.cli.stdin import claim_stdin
from converter.errors import UsageError
from converter.registry.auth.credentials import Credential
from converter.registry.options import MOST_TIMEOUT_SECONDS, Mirror, RegistryOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULTS = RegistryOptions()
_PASSWORD_LIMIT_BYTES = 64 << 10


def access_for(host: str, access: RegistryOptions, *, named: str) -> RegistryOptions:
    """Return `access` as it holds for `host`: a password that was given is for `named` alone.

    Where a command talks to several registries, it says which of them --username means; the others
    get what the credentials files have for them.
    """
    return access if host == named else replace(access, credential=None)


def registry_options(command: _Command) -> _Command:
    """Add how registries are reached; the command gets it as `access`, a RegistryOptions."""

    @functools.wraps(command)
    def with_access(
        *args: object,
        plain_http: bool,
        tls_verify: bool,
        ca_file: Path | None,
        authfile: Path | None,
        username: str | None,
        password_stdin: bool,
        mirror: tuple[str, ...],
        retries: int,
        timeout: float,
        **others: object,
    ) -> object:
        access = RegistryOptions(
            plain_http=plain_http,
            tls_verify=tls_verify,
            ca_file=ca_file,
            read_timeout_seconds=timeout,
            retries=retries,
            authfile=authfile,
            credential=_credential(username, password_stdin=password_stdin),
            mirrors=tuple(map(Mirror.parse, mirror)),
        )
        return command(*args, access=access, **others)

    options: list[Callable[[Any], Any]] = [
        click.option(
            "--plain-http",
            is_flag=True,
            envvar="SALTFLAT_PLAIN_HTTP",
            show_envvar=True,
            help="Talk to the registry over http, unencrypted.",
        ),
        click.option(
            "--tls-verify/--no-tls-verify",
            default=True,
            envvar="SALTFLAT_TLS_VERIFY",
            show_envvar=True,
            show_default=True,
            help="Check the registry's certificate.",
        ),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar="SALTFLAT_CA_FILE",
            show_envvar=True,
            help="Certificates (PEM) to trust for the registry.",
        ),
        click.option(
            "--authfile",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar="SALTFLAT_AUTHFILE",
            show_envvar=True,
            help="Look for credentials in this file alone; else where podman and docker keep them.",
        ),
        click.option(
            "--username",
            envvar="SALTFLAT_USERNAME",
            show_envvar=True,
            help="Who to be at the registry; needs --password-stdin.",
        ),
        click.option(
            "--password-stdin",
            is_flag=True,
            envvar="SALTFLAT_PASSWORD_STDIN",
            show_envvar=True,
            help="Read the password for --username from standard input.",
        ),
        click.option(
            "--mirror",
            multiple=True,
            metavar="HOST[/PREFIX]",
            envvar="SALTFLAT_MIRROR",
            show_envvar=True,
            help="Ask this registry first; several are asked in their order. http:// before it "
            "allows plain http for it alone.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 100),
            default=_DEFAULTS.retries,
            envvar="SALTFLAT_RETRIES",
            show_envvar=True,
            show_default=True,
            help="How often to try again what failed without progress.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True, max=MOST_TIMEOUT_SECONDS),
            default=_DEFAULTS.read_timeout_seconds,
            envvar="SALTFLAT_TIMEOUT",
            show_envvar=True,
            show_default=True,
            metavar="SECONDS",
            help="How long a registry may send nothing, or next to nothing.",
        ),
    ]
    wrapped = cast("_Command", with_access)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def _credential(username: str | None, *, password_stdin: bool) -> Credential | None:
    if username is None and not password_stdin:
        return None
    if not username or not password_stdin:
        raise UsageError(
            "--username and --password-stdin go together.",
            expected="both, or neither and credentials from a file",
            hint='echo "$PASSWORD" | saltflat ... --username NAME --password-stdin ...',
        )
    claim_stdin("--password-stdin")
    raw = sys.stdin.buffer.read(_PASSWORD_LIMIT_BYTES + 1)
    try:
        password = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password or len(raw) > _PASSWORD_LIMIT_BYTES:
        raise UsageError(
            "Standard input has no password.", expected="the password alone, on one line"
        )
    return Credential(username, password, place="the command line")
