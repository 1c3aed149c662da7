"""The agent's own `socket`, `signal` and `json`: what they have is as the standard ones have it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from agent import bare_signal, bare_socket


@pytest.mark.parametrize(("ours", "standard"), [(bare_socket, socket), (bare_signal, signal)])
def test_names_are_the_standard_modules(ours, standard):
    own = {"NAMES", "socket", "socketpair"}
    for name in sorted(set(ours.__all__) - own):
        mine, theirs = getattr(ours, name), getattr(standard, name)
        if isinstance(mine, int):
            assert mine == theirs, name
        else:
            assert callable(mine), name


def test_all_signals_have_their_names():
    # Two of the names are others' as well: an enumeration lists those apart.
    expected = {name[3:]: int(member) for name, member in signal.Signals.__members__.items()}
    assert expected == bare_signal.NAMES


def test_a_pair_talks_and_closes_at_the_end_of_its_block():
    first, second = bare_socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        assert (first.family, first.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
        first.send(b"x")
        assert second.recv(8) == b"x"
    assert (first.fileno(), second.fileno()) == (-1, -1)


def test_a_connection_is_taken(tmp_path):
    path = str(tmp_path / "line")
    with (
        bare_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        bare_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller,
    ):
        listener.bind(path)
        listener.listen()
        caller.connect(path)
        taken, peer = listener.accept()
        with taken:
            assert isinstance(taken, bare_socket.socket)
            assert peer == ""
            taken.sendall(b"hello")
            assert caller.recv(8) == b"hello"


def test_none_brings_enumerations():
    ours = "bare_json, bare_signal, bare_socket"
    program = f"import sys; from agent import {ours}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not {"enum", "json", "re", "signal", "socket", "selectors"} & set(run.stdout.split())
