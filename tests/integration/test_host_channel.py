"""The host end against a real QEMU: its socket client, its firmware's noise, its death."""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import contextmanager

import pytest

from agent.host import (
    MachineEndedError,
    NoHelloError,
    Session,
    Stdio,
    Timeouts,
    UnixListener,
    private_directory,
)
from agent.wire import Endpoint, Role

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@contextmanager
def firmware(tool):
    """Start a machine that has nothing to boot, with its serial port on a listener's socket."""
    with private_directory() as directory, UnixListener(directory / "channel") as listener:
        command = [
            tool("qemu-system-x86_64"),
            *("-machine", "q35,accel=tcg,graphics=off", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=line,path={listener.path},server=off,reconnect=1"),
            *("-serial", "chardev:line"),
        ]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
            try:
                yield listener, machine
            finally:
                machine.kill()


def session(listener, **options):
    endpoint = Endpoint(Role.HOST, bytes(32), nonce=os.urandom(16), now=time.monotonic())
    return Session(listener, endpoint, Stdio(None, 1, 2), **options)


def test_firmware_that_never_says_hello_is_shown(tool):
    with (
        firmware(tool) as (listener, machine),
        pytest.raises(NoHelloError) as raised,
    ):
        session(
            listener,
            timeouts=Timeouts(connect=20, hello=6),
            is_alive=lambda: machine.poll() is None,
        ).run()
    assert "SeaBIOS" in raised.value.console


def test_a_killed_machine_is_noticed_long_before_any_timeout(tool):
    with firmware(tool) as (listener, machine):
        killed = []

        def kill_soon():
            if not killed and time.monotonic() > started + 1:
                machine.kill()
                killed.append(time.monotonic())

        started = time.monotonic()
        with pytest.raises(MachineEndedError):
            session(listener, on_tick=kill_soon, is_alive=lambda: machine.poll() is None).run()
        assert time.monotonic() - killed[0] < 2


def test_the_hypervisor_comes_back_after_a_cut(tool):
    with firmware(tool) as (listener, _):
        for _ in range(3):
            assert select.select([listener], [], [], 20)[0]
            listener.accept().close()
