"""What a run relays, both ways, with slow, closed and broken descriptors and lines."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time

import pytest

from agent.host import AbortedError, ExitStatus, Failure, OutputError, SignalInbox
from agent.wire import STDERR, STDIN, STDOUT, Control, Data, Finished
from tests.unit.host.guest_thread import (
    collected,
    ending,
    read_all,
    sending,
    started,
    until_established,
)


def test_streams_are_told_apart_and_the_code_comes_back():
    def script(guest):
        yield from until_established(guest)
        yield from sending(guest, STDOUT, b"out\n")
        yield from sending(guest, STDERR, b"err\n")
        yield from ending(guest, 7)

    with (
        collected() as (out, finish_out),
        collected() as (err, finish_err),
        started(script, stdout=out, stderr=err) as (session, _),
    ):
        assert session.run() == ExitStatus(code=7)
        assert (finish_out(), finish_err()) == (b"out\n", b"err\n")


def test_a_signalled_process_is_reported_whole():
    def script(guest):
        yield from until_established(guest)
        guest.endpoint.control(
            {"type": "exited", "code": 137, "signal": 9, "core": False, "oom": True}
        )
        while guest.endpoint.unacknowledged():
            yield

    with started(script) as (session, _):
        assert session.run() == ExitStatus(code=137, signal=9, oom=True)


def test_a_process_that_could_not_be_started_is_a_failure():
    def script(guest):
        yield from until_established(guest)
        guest.endpoint.control(
            {"type": "failed", "code": 127, "kind": "not-found", "message": "no \x1b[31msuch"}
        )
        while guest.endpoint.unacknowledged():
            yield

    with started(script) as (session, _):
        status = session.run()
    assert status == ExitStatus(127, failure=Failure("not-found", "no \ufffd[31msuch"))


def test_stdin_arrives_whole_and_its_end_too():
    given = random.Random(1).randbytes(1_000_000)
    got = bytearray()

    def script(guest):
        done = False
        while not done:
            for event in (yield) or ():
                if isinstance(event, Data):
                    got.extend(event.data)
                    guest.endpoint.consumed(STDIN, len(event.data))
                done = done or event == Finished(STDIN)
        yield from ending(guest)

    reader, writer = os.pipe()

    def write():
        with open(writer, "wb") as file:
            file.write(given)

    threading.Thread(target=write, daemon=True).start()
    with started(script, stdin=reader) as (session, _):
        assert session.run().code == 0
    os.close(reader)
    assert bytes(got) == given


def test_stdin_may_be_a_file(tmp_path):
    (tmp_path / "in").write_bytes(b"hi\n")
    got = []

    def script(guest):
        done = False
        while not done:
            events = (yield) or ()
            got.extend(event.data for event in events if isinstance(event, Data))
            done = Finished(STDIN) in events
        yield from ending(guest)

    with (
        open(tmp_path / "in", "rb") as file,
        started(script, stdin=file.fileno()) as (session, _),
    ):
        session.run()
    assert got == [b"hi\n"]


def test_megabytes_arrive_exactly():
    data = random.Random(2).randbytes(8 << 20)

    def script(guest):
        yield from until_established(guest)
        yield from sending(guest, STDOUT, data)
        yield from ending(guest)

    with collected() as (out, finish), started(script, stdout=out) as (session, _):
        assert session.run().code == 0
        received = finish()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_a_slow_reader_slows_the_guest_down_but_not_control():
    """With stdout stuck, a signal still reaches the guest, and nothing is lost in the end."""
    data = random.Random(3).randbytes(600_000)
    reader, writer = os.pipe()
    inbox = SignalInbox()
    chunks = []

    def script(guest):
        yield from until_established(guest)
        left = data
        signalled = False
        while not signalled:
            left = left[guest.endpoint.send(STDOUT, left) :]
            if left and not guest.endpoint.writable(STDOUT):
                inbox.put(signal.SIGTERM)  # out of credit: nobody reads the pipe
            for event in (yield) or ():
                if event == Control({"type": "signal", "signal": signal.SIGTERM}):
                    signalled = True
        assert left
        threading.Thread(target=read_all, args=(reader, chunks), daemon=True).start()
        yield from sending(guest, STDOUT, left)
        yield from ending(guest)

    with started(script, stdout=writer, inbox=inbox) as (session, _):
        assert session.run().code == 0
    os.close(writer)
    deadline = time.monotonic() + 10
    while sum(map(len, chunks)) < len(data) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b"".join(chunks) == data
    inbox.close()


def test_a_closed_stdout_does_not_hang_the_run():
    reader, writer = os.pipe()
    os.close(reader)

    def script(guest):
        yield from until_established(guest)
        yield from sending(guest, STDOUT, bytes(1_000_000))
        yield from ending(guest, 3)

    with started(script, stdout=writer) as (session, _):
        assert session.run().code == 3
    os.close(writer)


def test_a_full_disk_is_an_error():
    full = os.open("/dev/full", os.O_WRONLY)

    def script(guest):
        yield from until_established(guest)
        yield from sending(guest, STDOUT, b"x")

    with started(script, stdout=full) as (session, _), pytest.raises(OutputError, match="No space"):
        session.run()
    os.close(full)


def test_a_cut_line_loses_nothing():
    data = random.Random(4).randbytes(2_000_000)

    def script(guest):
        yield from until_established(guest)
        left = data
        cuts = 0
        while left:
            left = left[guest.endpoint.send(STDOUT, left) :]
            if len(left) < len(data) - 400_000 * (cuts + 1):
                cuts += 1
                guest.unsent = b""
                guest.reconnect()
            yield
        assert cuts >= 4
        yield from ending(guest)

    with collected() as (out, finish), started(script, stdout=out) as (session, _):
        assert session.run().code == 0
        assert finish() == data


def test_a_second_interrupt_ends_the_run():
    inbox = SignalInbox()

    def script(guest):
        yield from until_established(guest)
        inbox.put(signal.SIGINT)
        seen = False
        while not seen:
            seen = Control({"type": "signal", "signal": signal.SIGINT}) in ((yield) or ())
        inbox.put(signal.SIGINT)
        yield

    with (
        started(script, inbox=inbox) as (session, _),
        pytest.raises(AbortedError) as raised,
    ):
        session.run()
    assert raised.value.signal == signal.SIGINT
    inbox.close()


def test_the_terminal_size_is_sent_at_first_and_on_change():
    inbox = SignalInbox()
    sizes = [(24, 80)]
    seen = []

    def script(guest):
        while len(seen) < 2:
            for event in (yield) or ():
                if isinstance(event, Control):
                    seen.append(event.message)
                    sizes[0] = (50, 132)
                    inbox.put(signal.SIGWINCH)
        yield from ending(guest)

    with started(script, inbox=inbox, terminal_size=lambda: sizes[0]) as (session, _):
        session.run()
    assert seen[:2] == [
        {"type": "resize", "rows": 24, "cols": 80},
        {"type": "resize", "rows": 50, "cols": 132},
    ]
    inbox.close()


def test_an_interrupt_before_the_process_runs_ends_the_run():
    """There is nobody to forward it to, and the user wants out of the boot."""
    inbox = SignalInbox()

    def script(guest):
        while not guest.endpoint.established:
            yield
        inbox.put(signal.SIGINT)
        yield

    with started(script, inbox=inbox) as (session, _), pytest.raises(AbortedError):
        session.run()
    inbox.close()
