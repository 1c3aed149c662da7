"""Standard input without blocking, terminals, and the raw line."""

from __future__ import annotations

import os
import socket
import termios
import tty

import pytest

from agent.tether import channel, terminal
from agent.tether.standard_input import StandardInput


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue  # the test has closed it


@pytest.fixture
def pty():
    ends = terminal.open_terminal()
    yield ends
    for end in ends:
        os.close(end)


def test_a_full_pipe_takes_the_rest_later(pipe):
    reader, writer = pipe
    stdin = StandardInput(writer, is_terminal=False)
    data = bytes(range(256)) * 1024
    stdin.append(data[:100000])
    stdin.append(data[100000:])
    stdin.finish()
    got, written = b"", 0
    while not stdin.ended:
        written += stdin.write()
        got += os.read(reader, 65536)
        assert stdin.ended or stdin.pending
    os.close(writer)
    while chunk := os.read(reader, 65536):
        got += chunk
    assert got == data
    assert written == len(data)


def test_reader_that_went_away_ends_it(pipe):
    reader, writer = pipe
    stdin = StandardInput(writer, is_terminal=False)
    os.close(reader)
    stdin.append(b"x" * 10)
    assert stdin.write() == 0
    assert stdin.ended
    assert stdin.discard() == 10
    assert not stdin.pending


def test_end_of_input_of_a_terminal(pty):
    master, slave = pty
    stdin = StandardInput(master, is_terminal=True)
    stdin.append(b"whole line\nhalf")
    stdin.finish()
    assert stdin.write() == 15
    assert not stdin.ended  # the master still brings output
    assert [os.read(slave, 100) for _ in range(3)] == [b"whole line\n", b"half", b""]


def test_raw_terminal_has_no_end_of_input(pty):
    master, slave = pty
    tty.setraw(slave)
    assert terminal.end_of_input(master, line_open=True) == b""


def test_terminal_size(pty):
    master, slave = pty
    terminal.set_size(master, 33, 101)
    assert os.get_terminal_size(slave) == (101, 33)


def test_raw_line_passes_every_byte_both_ways(pty):
    master, slave = pty
    channel.make_raw(slave)
    every = bytes(range(256))
    os.write(slave, every)
    os.write(master, every)
    assert os.read(master, 1024) == every  # no echo, no translation
    assert os.read(slave, 1024) == every
    assert termios.tcgetattr(slave)[2] & termios.CLOCAL


def test_transport_never_blocks():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = channel.Device(ours.fileno(), limits=channel.SERIAL_LIMITS, read_bytes=65536)
        assert transport.read() is None
        while transport.write(bytes(65536)):
            pass
        theirs.sendall(b"x")
        assert transport.read() == b"x"
        theirs.shutdown(socket.SHUT_WR)
        assert transport.read() == b""
