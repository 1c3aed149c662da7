"""Sockets as the line: over AF_UNIX, for the family is a parameter."""

from __future__ import annotations

import os
import secrets
import select
import socket
import time

import pytest

from agent.tether import channel, sockets
from agent.tether.line import Line
from agent.wire import Control, Endpoint, Established, Role

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path):
    return os.fspath(tmp_path / "line")


def listen(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    return listener


def connected(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    return connection


def endpoint(role):
    return Endpoint(role, KEY, nonce=secrets.token_bytes(32), now=time.monotonic())


def connecting(path):
    return sockets.Connecting(socket.AF_UNIX, path, limits=channel.VSOCK_LIMITS)


def test_it_connects_when_there_is_someone(path):
    transport = connecting(path)
    transport.revive(1.0)
    assert transport.read() is None
    assert transport.write(b"x") == 0
    assert transport.descriptors == ()
    assert transport.deadline() == 1.0 + sockets.RETRY_SECONDS
    with listen(path) as listener:
        listener.listen(1)
        transport.revive(1.5)  # not yet
        assert transport.descriptors == ()
        transport.revive(2.0)
        assert transport.deadline() is None
        host, _ = listener.accept()
        with host:
            assert transport.write(b"hello") == 5
            assert host.recv(10) == b"hello"
            host.sendall(b"answer")
            assert select.select(transport.descriptors, [], [], 5)[0]
            assert transport.read() == b"answer"
            assert transport.read() is None
        before = transport.descriptors
        assert transport.read() == b""  # lost, said once
        assert transport.read() is None
        assert transport.descriptors is not before
        transport.close_old()
        transport.revive(3.0)
        assert len(transport.descriptors) == 1
        transport._drop()
        transport.close_old()


def test_the_newest_host_replaces_the_one_before(path):
    listener = listen(path)
    transport = sockets.Listening(listener, limits=channel.VSOCK_LIMITS, admits=lambda _: True)
    assert transport.read() is None
    with connected(path) as old, connected(path) as new:
        transport.revive(0.0)
        new.sendall(b"new")
        assert transport.read() == b""  # the old one's connection was lost
        assert transport.read() == b"new"
        transport.close_old()
        assert old.recv(10) == b""
        assert transport.write(b"to the new one") == 14
        assert new.recv(100) == b"to the new one"
    assert transport.read() == b""
    transport.close_old()
    listener.close()


def test_who_is_not_admitted_changes_nothing(path):
    listener = listen(path)
    admitted = [True, False]
    transport = sockets.Listening(
        listener, limits=channel.VSOCK_LIMITS, admits=lambda _: admitted.pop(0)
    )
    with connected(path) as host:
        transport.revive(0.0)
        with connected(path) as stranger:
            transport.revive(0.0)
            assert stranger.recv(10) == b""
        host.sendall(b"still here")
        assert transport.read() == b"still here"
    transport._drop()
    transport.close_old()
    listener.close()


def test_a_session_goes_on_over_another_connection(path):
    transport = connecting(path)
    line = Line(transport, endpoint(Role.GUEST))
    host = endpoint(Role.HOST)
    with listen(path) as listener:
        listener.listen(1)
        for name, now in (("first", 1e6), ("second", 2e6)):
            transport.revive(now)
            connection, _ = listener.accept()
            with connection:
                connection.setblocking(False)
                line.endpoint.control({"type": name})
                events = exchange(line, host, connection, name)
            host.transport_lost()
            resumed = [event.peer["resumed"] for event in events if isinstance(event, Established)]
            assert resumed == [name == "second"]
            assert line.receive(time.monotonic()) == []
            line.close_old()


def exchange(line, host, connection, name):
    """Pump until the host has the control message of this name; return the host's events."""
    events = []
    deadline = time.monotonic() + 20
    while Control({"type": name}) not in events:
        now = time.monotonic()
        assert now < deadline
        line.receive(now)
        line.send(now)
        try:
            events += host.receive(connection.recv(65536), now)
        except BlockingIOError:
            events += host.tick(now)
        connection.sendall(host.data_to_send(now))
    return events
