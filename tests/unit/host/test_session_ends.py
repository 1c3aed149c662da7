"""Every way in which a run ends without an exit status has an error of its own."""

from __future__ import annotations

import threading
import time

import pytest

from agent.host import (
    GuestFaultError,
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
    Session,
    Stdio,
    Timeouts,
    UnixListener,
    private_directory,
)
from agent.wire import STDERR, STDOUT, Endpoint, Role
from tests.unit.host.guest_thread import KEY, QUICK, collected, ending, started, until_established

NO_HELLO = Timeouts(hello=0.2)


def test_the_hypervisor_never_connected():
    with private_directory() as directory, UnixListener(directory / "channel") as listener:
        session = Session(
            listener,
            Endpoint(Role.HOST, KEY, nonce=bytes(16), now=time.monotonic()),
            Stdio(None, 1, 2),
            timeouts=QUICK,
        )
        with pytest.raises(NeverConnectedError, match="did not connect") as raised:
            session.run()
    assert "channel" in raised.value.hint


def test_the_guest_never_said_hello_shows_the_console():
    def script(guest):
        guest.socket.send(b"[    1.0] Kernel panic\x1b[0m - not syncing\r\nsecond line\n")
        guest.endpoint.transport_lost()
        for _ in range(60):  # no endpoint answers: what the host says is not read
            time.sleep(0.005)
        yield

    with (
        started(script, timeouts=NO_HELLO) as (session, _),
        pytest.raises(NoHelloError, match="did not say hello") as raised,
    ):
        session.run()
    assert raised.value.console == "[    1.0] Kernel panic\ufffd[0m - not syncing\nsecond line"


def test_a_guest_with_another_key_never_said_hello():
    def script(guest):
        for _ in range(10):
            yield
        assert not guest.endpoint.established
        assert guest.endpoint.counters.forged

    with (
        started(script, timeouts=NO_HELLO, key=bytes(32)) as (session, _),
        pytest.raises(NoHelloError),
    ):
        session.run()


def test_the_guest_went_silent():
    def script(guest):
        yield from until_established(guest)
        time.sleep(0.6)

    with (
        started(script, timeouts=QUICK) as (session, _),
        pytest.raises(GuestLostError, match="went silent"),
    ):
        session.run()


def test_an_idle_guest_is_not_silent():
    """It answers probes: more than twice the silence limit passes."""

    def script(guest):
        yield from until_established(guest)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            yield
        yield from ending(guest)

    with started(script, timeouts=Timeouts(silence=0.5)) as (session, _):
        assert session.run().code == 0


def test_the_line_closed_before_an_exit_status():
    def script(guest):
        yield from until_established(guest)

    with (
        started(script, timeouts=QUICK) as (session, _),
        pytest.raises(GuestLostError, match="line closed"),
    ):
        session.run()


def test_a_machine_that_died_ends_the_wait_at_once():
    alive = [True]

    def script(guest):
        yield from until_established(guest)
        alive[0] = False

    with (
        started(script, is_alive=lambda: alive[0], console=lambda: "Oops") as (session, _),
        pytest.raises(MachineEndedError) as raised,
    ):
        session.run()
    assert raised.value.console == "Oops"


def test_what_a_machine_said_before_it_died_counts():
    """It is dead before the host reads its last words, which are in the socket."""
    alive = [True]
    stop, go = threading.Event(), threading.Event()

    def script(guest):
        yield from until_established(guest)
        guest.endpoint.send(STDOUT, b"last words")
        guest.endpoint.finish(STDOUT)
        guest.endpoint.finish(STDERR)
        guest.endpoint.control({"type": "exited", "code": 5})
        stop.set()
        assert go.wait(10)
        guest.socket.send(guest.endpoint.data_to_send(time.monotonic()))
        alive[0] = False

    def tick():
        if stop.is_set() and not go.is_set():  # hold the host until the guest is gone
            go.set()
            guest.thread.join(10)

    with (
        collected() as (out, finish),
        started(script, stdout=out, is_alive=lambda: alive[0], on_tick=tick) as (session, guest),
    ):
        assert session.run().code == 5
        assert finish() == b"last words"


def test_a_peer_that_breaks_the_rules_is_named():
    def script(guest):
        yield from until_established(guest)
        guest.endpoint.control({"type": "exited", "code": 4000})
        yield
        yield

    with (
        started(script) as (session, _),
        pytest.raises(GuestFaultError, match="no process can have"),
    ):
        session.run()
