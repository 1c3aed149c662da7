"""The verbs with --relay: the command line, TLS and a token on one side, a relay on the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.host import client as clients
from agent.host.errors import GuestLostError
from agent.host.relay import RelayServer, read_rules
from agent.host.relay.door import local_door
from agent.host.relay.tls import server_context, tls_door
from tests.images.cache import ROOT
from tests.integration import warm
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import machine_folder
from tests.integration.relay_tls import certificate
from tests.integration.vspc import tether_process

pytestmark = pytest.mark.integration


@pytest.fixture
def relay(tmp_path, tool):
    """Serve the machine `web` behind TLS; return what the command line needs, and its program."""
    tool("openssl")
    files = certificate(tmp_path, "relay")
    (tmp_path / "token").write_text("sesame\n")
    rule = {"token": hashlib.sha256(b"sesame").hexdigest(), "machines": ["web"], "allow": ["*"]}
    rules = read_rules(json.dumps({"schema": 1, "clients": [rule]}))
    program = Program(out=b"out\n", err=b"err\n", code=6, reads=False, ends=False)
    with machine_folder() as (folder, line, key), RelayServer(folder, line) as server:
        door = tls_door(
            ("127.0.0.1", 0),
            server.loop,
            find={"web": server.machine}.get,
            access=rules,
            context=server_context(*files, files[0]),
        )
        thread = threading.Thread(target=server.run, daemon=True)
        guest = Guest(line, key, program)
        thread.start()
        try:
            where = {
                "SALTFLAT_RELAY": f"127.0.0.1:{door.address[1]}",
                "SALTFLAT_RELAY_CA": str(files[0]),
                "SALTFLAT_RELAY_TOKEN_FILE": str(tmp_path / "token"),
                "SALTFLAT_STATE": str(tmp_path / "state"),
            }
            yield where, program
        finally:
            server.loop.call_soon(server.stop)
            # A connection wakes the loop, which then ends.
            with clients.UnixAddress(folder / "relay.sock").connect(5):
                thread.join(10)
            guest.close()
            door.close()


def saltflat(where, *arguments, stdin=b""):
    return warm.COMMANDS.run(
        [os.fspath(argument) for argument in arguments],
        stdin=stdin,
        environment={**os.environ, "PYTHONPATH": str(ROOT), **where},
        timeout_seconds=100,
    )


def test_machines_of_another_host(relay, tmp_path):
    where, program = relay
    done = saltflat(where, "exec", "-i", "web", "9", "word", stdin=b"given")
    assert (done.returncode, done.stdout) == (9, b"9 word\ngiven"), done.stderr
    done = saltflat(where, "logs", "web")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    program.ends = True
    assert saltflat(where, "wait", "web").stdout == b"6\n"
    done = saltflat(where, "attach", "--no-stdin", "web")
    assert done.returncode == 6
    # Nothing of all that is about machines of this host.
    assert not (tmp_path / "state").exists()


def test_who_may_not_is_refused(relay, tmp_path):
    where, _program = relay
    assert saltflat(where, "logs", "db").returncode == 4
    (tmp_path / "token").write_text("guessed\n")
    for verb, code in (("logs", 4), ("wait", 4), ("attach", 125)):
        done = saltflat(where, verb, "web")
        assert (done.returncode, done.stdout) == (code, b"")
        assert b"relay" in done.stderr


STUBBORN = "trap 'echo term; exit 4' TERM; trap 'echo usr1; exit 5' USR1; echo up; {}"
LISTENS = STUBBORN.format("while :; do sleep 0.05; done")
DEAF = "trap '' TERM; echo up; exec sleep 100"


@pytest.fixture
def tether(tmp_path):
    """Serve a machine whose guest is tether's own loop: start(SCRIPT) returns where it is."""
    with machine_folder() as (folder, line, key), RelayServer(folder, line) as server:
        # The socket of `vspc serve`, where machines have names.
        door = local_door(folder / "many.sock", server.loop, find={"m": server.machine}.get)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        guests = []

        def start(script, *policy):
            document = tmp_path / "document"
            document.write_text(json.dumps({"schema": 1, "key": key.hex()}))
            command = [sys.executable, tether_process.__file__, line, document, script, *policy]
            guests.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            where = {"SALTFLAT_RELAY": f"unix:{folder / 'many.sock'}"}
            while saltflat(where, "logs", "m").stdout != b"up\n":
                assert guests[0].poll() is None
            return where

        try:
            yield start
        finally:
            for guest in guests:
                guest.kill()
                guest.wait(10)
            server.loop.call_soon(server.stop)
            with clients.UnixAddress(folder / "relay.sock").connect(5):
                thread.join(10)
            door.close()


@pytest.mark.parametrize(
    ("script", "order", "code", "said"),
    [
        pytest.param(LISTENS, ["stop"], 4, b"term\n", id="stop"),
        pytest.param(LISTENS, ["stop", "-s", "USR1"], 5, b"usr1\n", id="stop with a signal"),
        pytest.param(DEAF, ["stop", "-t", "0.2"], 137, b"", id="stop one that does not hear"),
        pytest.param(DEAF, ["kill"], 137, b"", id="kill"),
        pytest.param(LISTENS, ["kill", "-s", "USR1"], 5, b"usr1\n", id="a signal"),
    ],
)
def test_stop_and_kill_behind_a_relay(tether, script, order, code, said):
    """What has ended by a wish stays so, though the policy would have it start again."""
    where = tether(script, "unless-stopped")
    done = saltflat(where, *order, "m")
    assert (done.returncode, done.stdout) == (0, b"m\n"), done.stderr
    assert saltflat(where, "wait", "m").stdout == b"%d\n" % code
    assert saltflat(where, "logs", "m").stdout == b"up\n" + said
    # As with machines of this host: stopping once more is no error, killing is.
    assert saltflat(where, "stop", "m").returncode == 0
    refused = saltflat(where, "kill", "m")
    assert refused.returncode != 0
    assert b"does not run" in refused.stderr


def test_a_guest_that_is_frozen_cannot_be_stopped_by_a_relay(tether, monkeypatch):
    """Nobody cuts its power; the error says who can."""
    where = tether(DEAF)
    monkeypatch.setattr("agent.host.client.ending.GRACE_SECONDS", 0.5)
    address = clients.UnixAddress(Path(where["SALTFLAT_RELAY"].removeprefix("unix:")), "m")
    (guest,) = [child for child in _children() if b"tether_process" in child[1]]
    os.kill(guest[0], signal.SIGSTOP)
    try:
        with pytest.raises(GuestLostError, match="has not ended") as caught:
            clients.stop_and_wait(address, 0)
        assert "Power its machine off" in (caught.value.hint or "")
    finally:
        os.kill(guest[0], signal.SIGCONT)


def _children():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                    yield int(entry.name), (entry / "cmdline").read_bytes()
