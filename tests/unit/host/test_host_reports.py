"""What an untrusted guest reports: exit status, console text, output."""

from __future__ import annotations

import os

import pytest

from agent.host import ExitStatus, Failure
from agent.host.console import ConsoleTail
from agent.host.output import Output
from agent.host.status import exit_status


def test_the_two_ends_of_a_process():
    exited = {"type": "exited", "code": 139, "signal": 11, "core": True, "oom": False}
    assert exit_status(exited) == ExitStatus(139, signal=11, core=True)
    failed = {"type": "failed", "code": 126, "kind": "not-executable", "message": "/x: no"}
    assert exit_status(failed) == ExitStatus(126, failure=Failure("not-executable", "/x: no"))


@pytest.mark.parametrize("message", [{}, {"type": "started", "pid": 1}, {"type": ["exited"]}])
def test_other_messages_report_nothing(message):
    assert exit_status(message) is None


@pytest.mark.parametrize(
    "message",
    [
        {"type": "exited"},
        {"type": "exited", "code": 256},
        {"type": "exited", "code": -1},
        {"type": "exited", "code": True},
        {"type": "exited", "code": 1.0},
        {"type": "exited", "code": 1, "signal": "9"},
        {"type": "failed", "code": 0},
        {"type": "failed", "code": 7},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(message):
    with pytest.raises(ValueError, match=r"status|failure"):
        exit_status(message)


def test_a_failure_is_safe_to_print_and_bounded():
    message = {
        "type": "failed",
        "code": 127,
        "kind": "k" * 999,
        "message": "a\nb\x1b]0;x\x07" * 999,
    }
    failure = exit_status(message).failure
    assert failure.message.startswith("a b\ufffd]0;x\ufffda b")
    assert (len(failure.kind), len(failure.message)) == (64, 2000)


def test_the_console_keeps_the_last_lines():
    tail = ConsoleTail()
    for number in range(5000):
        tail.write(b"line %d\r\n" % number)
    assert tail.text().splitlines() == [f"line {number}" for number in range(4988, 5000)]
    assert len(tail._kept) <= 16384


def test_console_noise_is_made_safe():
    tail = ConsoleTail()
    tail.write(b"\xff\xfe\x1b[2J\x00ok\n\n\n")
    assert tail.text() == "\ufffd\ufffd\ufffd[2J\ufffdok"


def test_output_goes_out_as_far_as_the_pipe_takes_it():
    reader, writer = os.pipe()
    output = Output(writer)
    data = os.urandom(300_000)
    output.push(data[:100_000])
    output.push(data[100_000:])
    flushed = output.flush()
    assert 4096 <= flushed < len(data)
    assert output.pending
    assert output.flush() == 0
    received = b""
    while len(received) < len(data):
        received += os.read(reader, 65536)
        output.flush()
    assert received == data
    assert not output.pending
    os.close(reader)
    os.close(writer)


def test_output_without_a_reader_is_disposed_of():
    reader, writer = os.pipe()
    os.close(reader)
    output = Output(writer)
    output.push(bytes(100_000))
    assert output.flush() == 100_000
    output.push(b"more")
    assert output.flush() == 4
    os.close(writer)


def test_output_to_a_closed_descriptor_is_disposed_of():
    reader, writer = os.pipe()
    os.close(writer)
    output = Output(writer)
    output.push(b"nobody")
    assert output.flush() == 6
    os.close(reader)
