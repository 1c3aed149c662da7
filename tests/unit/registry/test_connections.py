"""A server that drips its headers is given up, however long it goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from converter.errors import UnavailableError
from converter.registry.client import RegistryClient, RegistryOptions


@pytest.fixture
def dripping() -> Iterator[str]:
    """Yield the host of a server that never comes to the end of its headers."""
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            try:
                while not done.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join(20)


def test_headers_must_come_to_an_end(dripping: str) -> None:
    options = RegistryOptions(plain_http=True, retries=0, read_timeout_seconds=0.2)
    with (
        RegistryClient(dripping, options) as client,
        pytest.raises(UnavailableError, match="did not answer in time"),
    ):
        client.manifest("a", "1", accept=())
