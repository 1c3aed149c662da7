"""The verbs with --relay: the command line, TLS and a token on one side, a relay on the other."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading

import pytest

from agent.host import client as clients
from agent.host.relay import RelayServer, read_rules, server_context, tls_door
from tests.images import prepared
from tests.images.cache import ROOT
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import machine_folder
from tests.integration.relay_tls import certificate

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
    return subprocess.run(
        [*prepared.SALTFLAT, *arguments],
        input=stdin,
        capture_output=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT), **where},
        check=False,
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
