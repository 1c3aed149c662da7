"""A server that drips its headers is given up, however long it goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from converter.errors import NotFoundError, UnavailableError
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


@pytest.fixture
def slow() -> Iterator[str]:
    """Yield the host of a server that takes some time before it says anything."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            threading.Event().wait(0.5)  # more than twice the time that connecting may take
            connection.sendall(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


def test_headers_have_the_time_of_reading_and_not_that_of_connecting(slow: str) -> None:
    options = RegistryOptions(
        plain_http=True, retries=0, connect_timeout_seconds=0.2, read_timeout_seconds=20
    )
    with RegistryClient(slow, options) as client, pytest.raises(NotFoundError):
        client.manifest("a", "1", accept=())


def test_headers_must_come_to_an_end(dripping: str) -> None:
    options = RegistryOptions(plain_http=True, retries=0, read_timeout_seconds=0.2)
    with (
        RegistryClient(dripping, options) as client,
        pytest.raises(UnavailableError, match="did not answer in time"),
    ):
        client.manifest("a", "1", accept=())
