"""The channel's socket: short private paths, partial writes, and closes."""

from __future__ import annotations

import os
import socket
import stat
import tempfile

import pytest

from agent.host import ChannelError, UnixListener, private_directory
from agent.host.transport import SUN_PATH_BYTES


def test_the_directory_is_private_and_goes_away():
    with private_directory() as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with UnixListener(directory / "a-name-of-thirty-two-bytes-at-most"):
            pass
        (directory / "left over").touch()
    assert not directory.exists()


def test_a_long_runtime_directory_is_passed_over(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with private_directory({"XDG_RUNTIME_DIR": str(long)}) as directory:
        assert long not in directory.parents
    assert list(long.iterdir()) == []


def test_no_directory_is_a_channel_error(tmp_path, monkeypatch):
    def refuse(**_options):
        raise PermissionError("not allowed")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(ChannelError, match="not allowed") as raised,
        private_directory({"XDG_RUNTIME_DIR": str(tmp_path)}),
    ):
        pass
    assert "TMPDIR" in raised.value.hint


def test_a_path_too_long_is_refused_before_the_kernel_does(tmp_path):
    with pytest.raises(ChannelError, match="too long"):
        UnixListener(tmp_path / ("x" * SUN_PATH_BYTES))


def test_a_path_in_use_is_a_channel_error():
    with (
        private_directory() as directory,
        UnixListener(directory / "s"),
        pytest.raises(ChannelError, match="in use"),
    ):
        UnixListener(directory / "s")


@pytest.fixture
def connected():
    with private_directory() as directory, UnixListener(directory / "s") as listener:
        assert listener.accept() is None
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(os.fspath(listener.path))
        connection = listener.accept()
        yield connection, peer
        connection.close()
        peer.close()


def test_what_the_peer_does_not_take_is_sent_later(connected):
    connection, peer = connected
    data = os.urandom(3_000_000)
    assert not connection.send(data)
    assert connection.blocked
    received = b""
    while len(received) < len(data):
        received += peer.recv(1 << 20)
        connection.send()
    assert received == data
    assert not connection.blocked


def test_a_close_is_told_from_silence(connected):
    connection, peer = connected
    assert connection.receive() == b""
    peer.send(b"last")
    peer.close()
    assert connection.receive() == b"last"
    assert connection.receive() is None
    assert connection.send(b"nobody takes this")
