"""Options that name a relay other than a local machine's, and what its errors are to a user.

Owns --relay and what goes with it: where the relay is, who it must be, who we are there. A token is
read from a file, never from the command line, where every user of the host could see it.
"""

from __future__ import annotations

import contextlib
import functools
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from agent.host.client import Address, LostError, TlsAddress, UnixAddress
from agent.host.errors import (
    AccessError,
    ChannelError,
    GuestFaultError,
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
    RelayError,
)
from converter.errors import (
    AuthError,
    HypervisorError,
    SaltflatError,
    UnavailableError,
    UsageError,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|([^:/\[\]]+)):(\d{1,5})")
_UNIX = "unix:"
_TOKEN_LIMIT_BYTES = 4096
_PARTS = ("relay_ca", "relay_cert", "relay_key", "relay_token_file")
_KINDS: tuple[tuple[type[RelayError], type[SaltflatError]], ...] = (
    (AccessError, AuthError),
    (ChannelError, UnavailableError),
    (LostError, UnavailableError),
    (NeverConnectedError, HypervisorError),
    (NoHelloError, HypervisorError),
    (GuestLostError, HypervisorError),
    (MachineEndedError, HypervisorError),
    (GuestFaultError, HypervisorError),
)


@dataclass(frozen=True)
class RelayPlace:
    """A relay for many machines: a TCP port behind TLS, or the Unix socket of `vspc serve`."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    context: ssl.SSLContext | None = None
    token: str | None = field(default=None, repr=False)

    def address(self, machine: str) -> Address:
        """Return where the client library finds a machine of this relay."""
        if self.path is not None:
            return UnixAddress(self.path, machine)
        assert self.context is not None
        return TlsAddress(self.host, self.port, machine, self.context, self.token)


def relay_options(command: _Command) -> _Command:
    """Add --relay and its kin; the command gets them as `relay`: a RelayPlace, or None."""

    @functools.wraps(command)
    def with_relay(
        *args: object,
        relay: str | None,
        relay_ca: Path | None,
        relay_cert: Path | None,
        relay_key: Path | None,
        relay_token_file: Path | None,
        **others: object,
    ) -> object:
        place = None
        if relay is not None:
            place = _read_place(relay, relay_ca, relay_cert, relay_key, relay_token_file)
        else:
            _refuse_parts_alone()
        return command(*args, relay=place, **others)

    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--relay",
            metavar="HOST:PORT|unix:PATH",
            envvar="SALTFLAT_RELAY",
            show_envvar=True,
            help="Find the machine at this relay (saltflat vspc serve), not on this host.",
        ),
        click.option(
            "--relay-ca",
            type=file,
            envvar="SALTFLAT_RELAY_CA",
            show_envvar=True,
            help="Certificates (PEM) that vouch for the relay; else those the system trusts.",
        ),
        click.option(
            "--relay-cert",
            type=file,
            envvar="SALTFLAT_RELAY_CERT",
            show_envvar=True,
            help="Our certificate for the relay (PEM).",
        ),
        click.option(
            "--relay-key",
            type=file,
            envvar="SALTFLAT_RELAY_KEY",
            show_envvar=True,
            help="Its private key (PEM, unencrypted), when it is in another file.",
        ),
        click.option(
            "--relay-token-file",
            type=file,
            envvar="SALTFLAT_RELAY_TOKEN_FILE",
            show_envvar=True,
            help="File with our token for the relay, on one line.",
        ),
    ]
    wrapped = cast("_Command", with_relay)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@contextlib.contextmanager
def relay_errors() -> Iterator[None]:
    """Turn a remote relay's errors into the command line's; a signal or detach keys pass through.

    The three ways in which a machine does not answer keep their kind as the error's `cause`.
    """
    try:
        yield
    except RelayError as error:
        if error.kind in {"aborted", "detached"}:
            raise
        kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), SaltflatError)
        raise kind(
            error.what, expected=error.expected, hint=error.hint, cause=error.kind
        ) from error


def _refuse_parts_alone() -> None:
    """Refuse a --relay-... that was typed without --relay: the machine would be a local one."""
    ctx = click.get_current_context()
    for name in _PARTS:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--{name.replace('_', '-')} was given, but no relay.",
                expected="--relay HOST:PORT, or SALTFLAT_RELAY",
            )


def _read_place(
    relay: str, ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None
) -> RelayPlace:
    if relay.startswith(_UNIX):
        return RelayPlace(path=Path(relay.removeprefix(_UNIX)))
    match = _ADDRESS.fullmatch(relay)
    if match is None or not 0 < int(match[3]) <= 0xFFFF:
        raise UsageError(
            f"{relay!r} is no address of a relay.",
            expected="HOST:PORT, with an IPv6 address in brackets, or unix:PATH",
        )
    return RelayPlace(
        host=match[1] or match[2],
        port=int(match[3]),
        context=_context(ca, cert, key),
        token=None if token_file is None else _read_token(token_file),
    )


def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    if key is not None and cert is None:
        raise UsageError(
            "--relay-key was given, but no --relay-cert.", expected="a certificate with its key"
        )
    try:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert is not None:
            # A key with a passphrase would make OpenSSL ask at the terminal.
            context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UsageError(
            f"The certificates for the relay cannot be used: {error}.",
            expected="PEM files: who signs the relay's certificate; ours, and its unencrypted key",
        ) from error
    return context


def _read_token(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_TOKEN_LIMIT_BYTES + 1)
    try:
        token = raw.decode("ascii").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or len(raw) > _TOKEN_LIMIT_BYTES:
        raise UsageError(
            f"{path} has no token.",
            expected="one line of printable ASCII, the token alone",
            hint="The relay's rules have its sha256: printf %s TOKEN | sha256sum.",
        )
    return token
