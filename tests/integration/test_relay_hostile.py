"""A relay whose guest, line or clients are not what they should be: silent, lying, foreign."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading

import pytest

from agent.host import (
    AccessError,
    ChannelError,
    GuestFaultError,
    NeverConnectedError,
    NoHelloError,
    RequestError,
    Stdio,
)
from agent.host import client as clients
from agent.host.client.connection import Connection
from agent.host.relay import Condition, RelayServer
from agent.wire import STDOUT
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import (
    RelayProcess,
    logged,
    machine_folder,
    null,
    relayed,
    until,
)

pytestmark = pytest.mark.integration


def test_the_three_diagnoses():
    patience = (
        '{"stay": true, "patience": {"connect": 0.2, "hello": 0.2, "silence": 0.3,'
        ' "reconnect": 0.2}}'
    )
    with machine_folder() as (folder, line, key):
        relay = RelayProcess(folder, line, patience)
        try:
            fatal = frozenset(("never-connected", "no-hello", "silent", "disconnected"))
            manners = clients.Manners(fatal=fatal)
            with null() as nowhere:
                stdio = Stdio(None, nowhere, nowhere)
                with pytest.raises(NeverConnectedError):
                    clients.attach(relay.address, stdio, manners=manners)
                with socket.socket(socket.AF_UNIX) as dumb:
                    dumb.connect(os.fspath(line))
                    dumb.sendall(b"booting\n")
                    with pytest.raises(NoHelloError) as caught:
                        clients.attach(relay.address, stdio, manners=manners)
                    assert "booting" in caught.value.console
                guest = Guest(line, key, Program(ends=False))
                until(lambda: clients.describe(relay.address)["condition"] == "alive")
                mute = threading.Event()
                guest.work = lambda _guest, _events: mute.wait(20)
                until(lambda: clients.describe(relay.address)["condition"] == "silent")
                mute.set()
                guest.close()
                until(lambda: clients.describe(relay.address)["condition"] == "disconnected")
        finally:
            relay.kill()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "exited", "code": "0"},
        {"type": "exited", "code": 300, "signal": None},
        {"type": "failed", "code": 3},
        {"type": "started", "pid": None},
        {"type": "exited", "process": "1", "code": 0},
        {"type": "exited", "process": True, "code": 0},
    ],
)
def test_a_guest_that_says_what_cannot_be_is_at_fault_and_the_relay_lives(message):
    class Liar(Program):
        def __call__(self, guest, events):
            if not self.said_started:
                self.said_started = True
                guest.endpoint.control(message)
            return super().__call__(guest, events)

    with relayed(Liar(ends=False)) as (relay, guest, _folder):
        until(lambda: clients.describe(relay.address)["condition"] == "fault")
        guest.close()
        with null() as nowhere, pytest.raises(GuestFaultError):
            clients.attach(relay.address, Stdio(None, nowhere, nowhere))


def test_noise_on_the_line_and_at_the_door_harms_nobody():
    rng = random.Random(5)
    with relayed(Program(out=b"well", ends=False)) as (relay, _guest, folder):
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as noise:
                noise.connect(os.fspath(relay.address.path))
                with contextlib.suppress(OSError):
                    noise.sendall(rng.choice(_rude(rng)))
        for request in (
            {"type": "attach", "replay": -1},
            {"type": "attach", "position": 1 << 61},
            {"type": "attach", "writer": "zz"},
            {"type": "exec", "args": "sh"},
            {"type": "exec", "args": []},
            {"type": "signal", "signal": 10**9},
            {"type": ["attach"]},
            {"type": "resize", "rows": -1, "cols": 1},
        ):
            with Connection(relay.address) as connection, pytest.raises(RequestError):
                connection.ask(request)
        until(lambda: logged(folder, STDOUT) == b"well")
        assert clients.describe(relay.address)["condition"] == "alive"


def _rude(rng):
    hello = struct.pack(">IB", 13, 1) + b'{"version":1}'
    return [
        rng.randbytes(1000),
        struct.pack(">IB", 1 << 31, 1),
        struct.pack(">IB", 4, 1) + b"null",
        struct.pack(">IB", 2, 1) + b"{}",
        hello,
        hello * 2,
        hello + struct.pack(">IB", 5, 2) + b"[[[[[",
        hello + struct.pack(">IB", 3, 5) + b"abc",
        hello + struct.pack(">IB", 8, 5) + bytes(8),
        hello + struct.pack(">IB", 17, 2) + b'{"type":"status"}',
    ]


def test_somebody_else_does_not_get_in():
    with machine_folder() as (folder, line, _key), RelayServer(folder, line) as server:
        assert server.machine.diagnosis().condition is Condition.NEVER_CONNECTED
        mode = (folder / "relay.sock").stat().st_mode & 0o777
        assert mode == 0o600
        with pytest.raises(ChannelError, match="Another relay"):
            RelayServer(folder, line)


@pytest.mark.root
def test_another_user_is_refused_though_the_socket_let_him():
    with relayed(Program(ends=False)) as (relay, _guest, folder):
        for path in (folder.parent, folder, folder / "relay.sock"):
            path.chmod(0o777)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setuid(65534)
                clients.describe(relay.address)
            except AccessError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
