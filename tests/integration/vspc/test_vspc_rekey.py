"""Another key for a machine, from the directory to the running process: tether's real loop below.

What vSphere hands over as guestinfo is a file here; the hosts are simulated.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import client as clients
from agent.host.client import Manners, Note
from tests.integration.relay_runs import Attached
from tests.integration.vspc import tether_process
from tests.integration.vspc.relayed import Site, saltflat
from tests.integration.vspc.simulated_esxi import Concentrator, Host, Lab, Pollable, Vm

pytestmark = pytest.mark.integration


class SerialPort(Pollable):
    """A VM's serial port: on one side what the guest has open, on the other its host."""

    def __init__(self, lab: Lab, connected: socket.socket, vm: Vm) -> None:
        super().__init__(connected)
        self.vm = vm
        self.host: Host | None = None
        lab.add(self)
        lab.each_turn.append(self.turn)

    def take(self, data: bytes) -> None:
        if self.host is not None and not self.host.closed:  # else nobody has it, as on a real one
            self.host.write(data)

    def turn(self) -> None:
        self.out += self.vm.received
        self.vm.received.clear()


class Machine:
    """A VM with tether in it."""

    def __init__(self, lab: Lab, site: Site, script: str) -> None:
        self.lab = lab
        self.vm = Vm(1, name="db-1")
        self.document = site.folder / "guestinfo"
        with socket.socket(socket.AF_UNIX) as listener:
            path = os.fspath(site.folder / "port")
            listener.bind(path)
            listener.listen()
            saltflat("vspc", "add", "db-1", "--uuid", self.vm.uuid, *self.told(site))
            command = [sys.executable, tether_process.__file__, path, os.fspath(self.document)]
            self.process = subprocess.Popen([*command, script], stderr=subprocess.PIPE, text=True)
            self.port = SerialPort(lab, listener.accept()[0], self.vm)

    def told(self, site: Site) -> list[str]:
        return ["--document", os.fspath(self.document), *site.directory]

    def connect(self, server: Concentrator) -> None:
        self.port.host = Host(self.lab, server.address, self.vm)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def typing(site: Site, machine: Machine, data: bytes, **options: object) -> Attached:
    """Attach, and type something; the process's stdin stays open."""
    stays = Manners(end_stdin=False)
    return Attached(site.local(machine.vm), data, manners=stays, **options)


SCRIPT = "echo one; read a; echo two $a; read b; echo three $b; exit 5"


@pytest.fixture
def site(tmp_path: Path, certificate: tuple[Path, Path]) -> Site:
    return Site(tmp_path, certificate)


@pytest.fixture
def machine(lab: Lab, site: Site) -> Iterator[Machine]:
    made = Machine(lab, site, SCRIPT)
    yield made
    made.close()


def test_a_relay_that_lost_everything_gets_its_machine_back(
    lab: Lab, site: Site, machine: Machine
) -> None:
    with site.serving() as server:
        machine.connect(server)
        first = typing(site, machine, b"x\n")
        lab.until(lambda: first.out == b"one\ntwo x\n")
        server.process.kill()
        server.process.wait()
    shutil.rmtree(site.relays)
    with site.serving() as server:
        saltflat("vspc", "add", "db-1", "--uuid", machine.vm.uuid, *machine.told(site))
        machine.connect(server)
        second = typing(site, machine, b"y\n")
        lab.until(lambda: second.result is not None)
        second.join(10)
        assert second.result.code == 5
        assert second.out == b"three y\n"
        entries = list(clients.logs(site.local(machine.vm)))
        assert [entry.count for entry in entries if isinstance(entry, Note)][1] == 10
        assert [entry.kind for entry in entries if isinstance(entry, Note)] == [
            "session",
            "gap",
            "ended",
        ]
        assert machine.process.wait(60) == 0
        assert not machine.document.exists()


def test_who_holds_the_old_key_has_nothing_any_more(lab: Lab, site: Site, machine: Machine) -> None:
    """The old directory comes back, journal and all: its relay is a stranger now."""
    stolen = site.folder / "stolen"
    with site.serving() as server:
        machine.connect(server)
        attached = typing(site, machine, b"x\n")
        lab.until(lambda: attached.out == b"one\ntwo x\n")
        server.process.kill()
        server.process.wait()
    sockets = shutil.ignore_patterns("relay.sock")
    shutil.copytree(site.relays, stolen, symlinks=True, ignore=sockets)
    with site.serving() as server:
        machine.connect(server)
        saltflat("vspc", "rekey", "db-1", *machine.told(site))
        lab.until(lambda: not machine.document.exists())
        lab.until(lambda: clients.describe(site.local(machine.vm))["condition"] == "alive")
    ours = site.folder / "ours"
    site.relays.rename(ours)
    stolen.rename(site.relays)
    with site.serving("--patience", "hello=2", "--patience", "silence=2") as server:
        machine.connect(server)
        lab.until(lambda: clients.describe(site.local(machine.vm))["condition"] == "silent")
        told = clients.describe(site.local(machine.vm))
        assert told["counters"]["frames_received"] == 0
    site.relays.rename(stolen)
    ours.rename(site.relays)
    with site.serving() as server:
        machine.connect(server)
        attached = typing(site, machine, b"y\n")
        lab.until(lambda: attached.result is not None)
        attached.join(10)
        assert (attached.result.code, attached.out[-8:]) == (5, b"three y\n")


def test_an_attached_client_goes_on_under_the_new_key(
    lab: Lab, site: Site, machine: Machine
) -> None:
    with site.serving() as server:
        machine.connect(server)
        attached = Attached(site.local(machine.vm), None)
        other = typing(site, machine, b"x\n", replay="none")
        lab.until(lambda: attached.out == b"one\ntwo x\n")
        saltflat("vspc", "rekey", "db-1", *machine.told(site))
        lab.until(lambda: not machine.document.exists())
        last = typing(site, machine, b"y\n", replay="none")
        everyone = (attached, other, last)
        lab.until(lambda: all(client.result is not None for client in everyone))
        attached.join(10)
        assert {client.result.code for client in everyone} == {5}
        assert attached.out == b"one\ntwo x\nthree y\n"
        assert "machine db-1 has another key" in server.log()
