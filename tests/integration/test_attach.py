"""What an attached client does with descriptors that are closed or full, and with signals.

The relay is a process of its own; the guest is a real end of the protocol, in a thread.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

from agent.host import AbortedError, ExitStatus, Failure, OutputError, SignalInbox, Stdio
from agent.host import client as clients
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import RelayProcess, machine_folder, null, relayed, until

pytestmark = pytest.mark.integration


def test_a_closed_stdout_does_not_hang_the_client_nor_the_guest():
    with relayed(Program(out=bytes(2_000_000), reads=False, code=3)) as (relay, guest, _folder):
        reader, writer = os.pipe()
        os.close(reader)
        with null() as nowhere:
            assert clients.attach(relay.address, Stdio(None, writer, nowhere)).code == 3
        os.close(writer)
        guest.join()


def test_a_full_disk_is_an_error():
    with relayed(Program(out=b"x", ends=False)) as (relay, _guest, _folder), null() as nowhere:
        full = os.open("/dev/full", os.O_WRONLY)
        with pytest.raises(OutputError, match="No space"):
            clients.attach(relay.address, Stdio(None, full, nowhere))
        os.close(full)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (
            {"type": "exited", "code": 137, "signal": 9, "core": False, "oom": True},
            ExitStatus(137, signal=9, oom=True),
        ),
        (
            {"type": "failed", "code": 127, "kind": "not-found", "message": "no \x1b[31msuch"},
            ExitStatus(127, failure=Failure("not-found", "no \ufffd[31msuch")),
        ),
    ],
)
def test_how_a_process_ended_or_could_not_be_started_is_reported_whole(message, status):
    class Ends(Program):
        def __call__(self, guest: Guest, events):
            if not self.said_exit:
                self.said_exit = True
                for stream in self.sent:
                    guest.endpoint.finish(stream)
                guest.endpoint.control(message)
            return not guest.endpoint.unacknowledged()

    with relayed(Ends()) as (relay, _guest, _folder), null() as nowhere:
        assert clients.attach(relay.address, Stdio(None, nowhere, nowhere)) == status


def test_the_terminals_size_is_told_at_first_and_when_it_changes():
    program = Program(ends=False)
    sizes = [(24, 80)]
    inbox = SignalInbox()
    with relayed(program) as (relay, _guest, _folder):
        with attached(relay, inbox, terminal_size=lambda: sizes[0]) as client:
            until(lambda: {"type": "resize", "rows": 24, "cols": 80} in program.controls)
            sizes[0] = (50, 132)
            inbox.put(signal.SIGWINCH)
            until(lambda: {"type": "resize", "rows": 50, "cols": 132} in program.controls)
            # With a terminal, a signal comes from somebody who wants the client to end.
            inbox.put(signal.SIGTERM)
            client.join(20)
        assert isinstance(client.error, AbortedError)
        assert client.error.signal == signal.SIGTERM
    inbox.close()


def test_a_second_interrupt_ends_the_client_though_the_process_ignores_it():
    program = Program(out=b"started", ends=False)
    inbox = SignalInbox()
    with relayed(program) as (relay, _guest, _folder):
        until(lambda: clients.describe(relay.address)["started"])
        with attached(relay, inbox) as client:
            until(lambda: clients.describe(relay.address)["condition"] == "alive")
            inbox.put(signal.SIGINT)
            until(lambda: {"type": "signal", "signal": 2} in program.controls)
            inbox.put(signal.SIGINT)
            client.join(20)
        assert isinstance(client.error, AbortedError)
        assert client.error.signal == signal.SIGINT
    inbox.close()


def test_without_sig_proxy_a_signal_ends_the_client_alone():
    program = Program(out=b"started", ends=False)
    inbox = SignalInbox()
    with relayed(program) as (relay, _guest, _folder):
        until(lambda: clients.describe(relay.address)["started"])
        with attached(relay, inbox, sig_proxy=False) as client:
            inbox.put(signal.SIGINT)
            client.join(20)
        assert isinstance(client.error, AbortedError)
        assert {"type": "signal", "signal": 2} not in program.controls
    inbox.close()


def test_an_interrupt_before_the_machine_is_there_ends_the_client():
    inbox = SignalInbox()
    with machine_folder() as (folder, line, _key):
        relay = RelayProcess(folder, line)
        with attached(relay, inbox) as client:
            inbox.put(signal.SIGINT)
            client.join(20)
        assert isinstance(client.error, AbortedError)
        relay.kill()
    inbox.close()


class attached:  # noqa: N801 - used as a context manager
    """Attach in a thread, with `options` for Manners."""

    def __init__(self, relay: RelayProcess, inbox: SignalInbox, **options):
        self.error: BaseException | None = None
        self._manners = clients.Manners(inbox=inbox, **options)
        self._relay = relay
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self.join(20)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the client did not end"

    def _run(self) -> None:
        with null() as nowhere:
            try:
                stdio = Stdio(None, nowhere, nowhere)
                clients.attach(self._relay.address, stdio, manners=self._manners)
            except Exception as error:  # shown by the test
                self.error = error
