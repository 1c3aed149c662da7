"""Clients that come over TLS: a certificate or a token, and the rules."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import threading

import pytest

from agent.host import AccessError, ChannelError
from agent.host import client as clients
from agent.host.relay import RelayServer, read_rules
from agent.host.relay.tls import server_context, tls_door
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import Attached, machine_folder
from tests.integration.relay_tls import certificate

pytestmark = pytest.mark.integration


@pytest.fixture
def door(tmp_path, tool):
    """A relay in this process behind TLS: (port, server's certificate, a client's)."""
    tool("openssl")
    server_files = certificate(tmp_path, "relay")
    client_files = certificate(tmp_path, "client")
    der = ssl.PEM_cert_to_DER_cert(client_files[0].read_text())
    rules = {
        "schema": 1,
        "clients": [
            {
                "certificate": hashlib.sha256(der).hexdigest(),
                "machines": ["db-*"],
                "allow": ["attach", "status"],
            },
            {
                "token": hashlib.sha256(b"secret").hexdigest(),
                "machines": ["*"],
                "allow": ["status"],
            },
        ],
    }
    out = os.urandom(2_000_000)
    with machine_folder() as (folder, line, key), RelayServer(folder, line) as server:
        opened = tls_door(
            ("127.0.0.1", 0),
            server.loop,
            find={"db-1": server.machine, "web": server.machine}.get,
            access=read_rules(json.dumps(rules)),
            context=server_context(*server_files, client_files[0]),
        )
        thread = threading.Thread(target=server.run, daemon=True)
        guest = Guest(line, key, Program(out=out, code=6))
        thread.start()
        try:
            yield opened.address[1], server_files[0], client_files, out
        finally:
            server.loop.call_soon(server.stop)
            # A connection wakes the loop, which then ends.
            with clients.UnixAddress(folder / "relay.sock").connect(5):
                thread.join(10)
            guest.close()
            opened.close()


def address(port, authority, machine, *, files=None, token=None):
    context = ssl.create_default_context(cafile=authority)
    if files is not None:
        context.load_cert_chain(*files)
    return clients.TlsAddress("127.0.0.1", port, machine, context, token)


def test_a_certificate_opens_what_its_rule_says(door):
    port, authority, files, out = door
    mine = address(port, authority, "db-1", files=files)
    attached = Attached(mine, os.urandom(500_000))
    attached.join(60)
    assert attached.result.code == 6
    assert attached.out == out
    with pytest.raises(AccessError, match="not allowed"):
        clients.send_signal(mine, 9)
    with pytest.raises(AccessError, match="no such machine"):
        clients.describe(address(port, authority, "web", files=files))


def test_a_token_opens_what_its_rule_says(door):
    port, authority, _files, _out = door
    assert "condition" in clients.describe(address(port, authority, "web", token="secret"))
    for token in (None, "Secret"):
        with pytest.raises(AccessError, match="no such machine"):
            clients.describe(address(port, authority, "web", token=token))
    with pytest.raises(AccessError, match="not allowed"):
        clients.stop(address(port, authority, "web", token="secret"), 1)


def test_a_relay_that_the_authority_has_not_signed_is_not_spoken_to(door, tmp_path):
    port, _authority, files, _out = door
    with pytest.raises(ChannelError, match="cannot be reached over TLS"):
        clients.describe(address(port, files[0], "web", token="secret"))
    with pytest.raises(ChannelError, match="cannot be reached: Connection refused"):
        clients.describe(address(1, files[0], "web", token="secret"))  # nobody listens there
