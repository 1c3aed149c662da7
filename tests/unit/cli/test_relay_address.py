"""Where a relay is, from options and variables; and its errors in the command line's terms."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.host.client import Address, LostError, TlsAddress, UnixAddress
from agent.host.errors import (
    AccessError,
    ChannelError,
    DetachedError,
    GuestLostError,
    NeverConnectedError,
    NoHelloError,
    RelayError,
    RequestError,
)
from converter.cli.relay_address import RelayPlace, relay_errors, relay_options
from converter.errors import SaltflatError, UsageError


def place(*arguments: str, **environment: str) -> RelayPlace | None:
    """Return what a command gets; what it raises comes through."""
    got: list[RelayPlace | None] = []

    @click.command()
    @relay_options
    def command(*, relay: RelayPlace | None) -> None:
        got.append(relay)

    result = CliRunner().invoke(command, arguments, env=environment, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return got[0]


def address(*arguments: str, **environment: str) -> Address:
    found = place(*arguments, **environment)
    assert found is not None
    return found.address("db-1")


def test_without_a_relay_machines_are_local() -> None:
    assert place() is None
    assert place(SALTFLAT_RELAY_TOKEN_FILE=__file__) is None


def test_a_unix_socket() -> None:
    assert address("--relay", "unix:/run/x.sock") == UnixAddress(Path("/run/x.sock"), "db-1")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("relay.example:2378", "relay.example", 2378),
        ("[::1]:1", "::1", 1),
        ("10.1.0.5:7", "10.1.0.5", 7),
    ],
)
def test_a_tcp_address(text: str, host: str, port: int) -> None:
    found = address(SALTFLAT_RELAY=text)
    assert isinstance(found, TlsAddress)
    assert (found.host, found.port, found.machine, found.token) == (host, port, "db-1", None)
    assert found.context.check_hostname


@pytest.mark.parametrize(
    "text", ["relay.example", "relay:0", "relay:65536", "::1:22", "[::1]", "a/b:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="no address of a relay"):
        place("--relay", text)


def test_the_token_comes_from_a_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"open sesame\r\n")
    found = address("--relay", "r:1", "--relay-token-file", str(file))
    assert found.hello == {"machine": "db-1", "token": "open sesame"}
    assert "sesame" not in repr(found)
    assert "sesame" not in repr(place("--relay", "r:1", "--relay-token-file", str(file)))


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff", b"x" * 5000])
def test_what_is_no_token(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="has no token"):
        place("--relay", "r:1", "--relay-token-file", str(file))


def test_parts_without_a_relay_are_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for option in ("--relay-ca", "--relay-cert", "--relay-key", "--relay-token-file"):
        with pytest.raises(UsageError, match=f"{option} was given"):
            place(option, str(file))


def test_certificates_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("nothing of the kind")
    for options in (("--relay-ca", str(file)), ("--relay-cert", str(file))):
        with pytest.raises(UsageError, match="cannot be used"):
            place("--relay", "r:1", *options)
    with pytest.raises(UsageError, match="no --relay-cert"):
        place("--relay", "r:1", "--relay-key", str(file))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AccessError("no"), 4),
        (ChannelError("no"), 8),
        (LostError("no"), 8),
        (NeverConnectedError("no"), 6),
        (NoHelloError("no"), 6),
        (GuestLostError("no"), 6),
        (RequestError("no"), 1),
    ],
)
def test_errors_have_codes_and_causes(error: RelayError, code: int) -> None:
    with pytest.raises(SaltflatError) as caught, relay_errors():
        raise error
    assert (caught.value.exit_code, caught.value.cause) == (code, error.kind)


def test_detaching_is_no_error_of_the_relay() -> None:
    with pytest.raises(DetachedError), relay_errors():
        raise DetachedError("keys")
