"""The host end against a real QEMU: its socket client, and its firmware's noise."""

from __future__ import annotations

import select
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.host import NoHelloError, Stdio, UnixListener
from agent.host import client as clients
from tests.integration.relay_runs import RelayProcess, machine_folder, null

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@contextmanager
def firmware(tool, line: Path):
    """Start a machine that has nothing to boot, with its serial port on a listener's socket."""
    command = [
        tool("qemu-system-x86_64"),
        *("-machine", "q35,accel=tcg,graphics=off", "-nodefaults", "-display", "none"),
        *("-chardev", f"socket,id=line,path={line},server=off,reconnect=1"),
        *("-serial", "chardev:line"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
        try:
            yield machine
        finally:
            machine.kill()


def test_firmware_that_never_says_hello_is_shown(tool):
    patience = '{"stay": true, "patience": {"hello": 6}}'
    with machine_folder() as (folder, line, _key):
        relay = RelayProcess(folder, line, patience)
        manners = clients.Manners(fatal=frozenset({"no-hello"}))
        with firmware(tool, line), null() as nowhere, pytest.raises(NoHelloError) as raised:
            clients.attach(relay.address, Stdio(None, nowhere, nowhere), manners=manners)
        relay.kill()
    assert "SeaBIOS" in raised.value.console


def test_the_hypervisor_comes_back_after_a_cut(tool):
    with (
        machine_folder() as (_folder, line, _key),
        UnixListener(line) as listener,
        firmware(tool, line),
    ):
        for _ in range(3):
            assert select.select([listener], [], [], 20)[0]
            listener.accept().close()
