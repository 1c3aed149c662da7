"""Addresses, secrets, and a listener that has run out of descriptors."""

from __future__ import annotations

import errno
import socket

import pytest

from agent.host.loop import Loop
from agent.host.vspc.allow import AllowList
from agent.host.vspc.c_vspc import SECRET_BYTES
from agent.host.vspc.errors import ListenError
from agent.host.vspc.seam import Notice
from agent.host.vspc.server import Address, Server, new_secret, read_address
from tests.unit.vspc.fakes import House


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("telnet://10.0.0.1:2377", Address(False, "10.0.0.1", 2377)),
        ("telnets://[::]:65535/", Address(True, "::", 65535)),
        ("telnet://:23", Address(False, "", 23)),
        ("telnet://vspc.example:23", Address(False, "vspc.example", 23)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1:23", "telnet://10.0.0.1", "telnet://::1:23", "telnet://x:65536", "tls://x:1"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ListenError) as caught:
        read_address(text)
    assert caught.value.expected


def test_secrets_are_of_one_length_and_without_iac() -> None:
    secrets = [new_secret() for _ in range(2000)]
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}
    assert b"\xff" not in b"".join(secrets)
    assert len(set(secrets)) > 1990


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a while, rather than being told again and again at once that somebody is there."""
    loop = Loop()
    log: list[Notice] = []
    address = Address(False, "127.0.0.1", 0)
    house = House()
    server = Server([address], house, AllowList(everybody=True), loop, context=None, log=log.append)
    times: list[float] = []
    accept = socket.socket.accept

    def none_left(listener: socket.socket) -> tuple[socket.socket, object]:
        times.append(loop.now())
        if len(times) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", none_left)
    try:
        with socket.create_connection(("127.0.0.1", server.addresses[0].port)):
            while len(times) < 2:
                loop.turn()
        assert times[1] - times[0] >= 1.0
    finally:
        server.close()
        loop.close()
