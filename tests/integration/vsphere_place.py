"""A simulated vCenter with the command line for it, and hosts that run what is powered on there.

The simulator (vcsim) has no serial I/O and runs nothing. `Guests` does in its place what an ESXi
host does: for each machine that is on it takes the document out of guestinfo, starts the agent with
it, joins its line to the machine's concentrator, and switches the machine off when the agent ends.
The agent is the real one, as a process of this host (agent/tether/alone.py): the command of the
document runs here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from converter.cli.app import top
from converter.cli.output import Output
from converter.machine.relays import Relays
from converter.machine.vsphere import VsphereMachines
from converter.template_import import find_place
from converter.vsphere import c_marks as marks
from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.settings import Given, Wishes, read_settings
from converter.vsphere.trust import Trust
from converter.vsphere.vm import Vm as Machine
from converter.vsphere.vms import power_off, set_extra, vms_below
from tests.images import prepared
from tests.images.layout import LayoutWriter
from tests.images.tarball import noise
from tests.integration.conftest import link_or_copy
from tests.integration.vspc.simulated_esxi import Host, Lab, Pollable, Vm
from tests.schemas import check
from tinykernel import zipapp

MAIN_ONLY = ("root", "hostname", "volumes", "network")  # what the agent alone does not prepare
_LOOK_SECONDS = 0.1
_BACKLOG_BYTES = 65536


def make_image(folder: Path) -> str:
    """Make a small image in `folder`; return its reference."""
    writer = LayoutWriter(folder)
    writer.layer(lambda tar: tar.file("noise", noise("place", 20_000)), comment="noise")
    writer.finish(config={"Cmd": ["sh", "-c", "exit 0"]})
    return f"oci:{folder}:latest"


@dataclass(frozen=True)
class Place:
    """The command line for machines on a simulated vCenter at `address`; `folder` has all files."""

    address: str
    folder: Path
    image: str
    boot_store: Path
    serial: str = "telnet://127.0.0.1:2377"
    others: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.folder / "store").exists():
            shutil.copytree(self.boot_store, self.folder / "store", copy_function=link_or_copy)

    @property
    def relays(self) -> Path:
        return self.folder / "relays"

    @property
    def environment(self) -> dict[str, str]:
        told = {
            "ON": "vsphere",
            "STORE": self.folder / "store",
            "STATE": self.folder / "state",
            "SERIAL": self.serial,
            "VSPC_RELAYS": self.relays,
            "VSPHERE_URL": f"http://{self.address}",
            "VSPHERE_USERNAME": "me",
            "VSPHERE_PASSWORD": "correct horse",
            "VSPHERE_INSECURE": "1",
            "VSPHERE_NETWORK": "VM Network",
        }
        return {**{f"SALTFLAT_{name}": str(value) for name, value in told.items()}, **self.others}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, as a process."""
        return subprocess.run(
            [*prepared.SALTFLAT, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, **self.environment},
            check=False,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on beside the test."""
        return subprocess.Popen(
            [*prepared.SALTFLAT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )

    def good(self, *arguments: str) -> str:
        """Run the command line in this process, demanding exit code 0; return its stdout.

        An interpreter for each would cost more than all that the commands do.
        """
        written = io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(written),
            top.make_context(
                "saltflat", ["-q", *arguments], obj=Output(), auto_envvar_prefix="SALTFLAT"
            ) as context,
        ):
            assert top.invoke(context) in (None, 0)
        return written.getvalue()

    @property
    def machines(self) -> VsphereMachines:
        """Another client: the library with a session of its own, as the command line makes it."""
        return VsphereMachines(
            self.open,
            find_place,
            Relays(self.relays),
            serial=self.serial,
            monitor=lambda _event: None,
        )

    def vm(self, name: str, connection: Connection | None = None) -> Machine:
        """Return what the server has under a name; to be changed by a `connection` alone."""
        if connection is None:
            with self.open() as opened:
                return self.vm(name, opened)
        (found,) = [vm for vm in vms_below(connection) if vm.name == name]
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what inspect tells of a machine."""
        found: dict[str, Any] = json.loads(
            self.good("inspect", "--type", "machine", "--format", "json", name)
        )
        check("machine", found)
        return found

    def open(self) -> Connection:
        """Open a session of the test's own."""
        given = Given(
            url=f"http://{self.address}",
            username="me",
            password="correct horse",
            trust=Trust(insecure=True),
            wishes=Wishes(network="VM Network"),
        )
        return open_connection(read_settings(given, {}))


class Guests:
    """What hosts do for the machines of a vCenter that are on; a thread of its own."""

    def __init__(self, place: Place, concentrator: tuple[str, int]) -> None:
        self._place = place
        self._concentrator = concentrator
        self._stop = threading.Event()
        self._agent = place.folder / "tether.pyz"
        zipapp.write(self._agent, zipapp.make_zipapp())
        self._thread = threading.Thread(target=self._run, name="hosts", daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Guests:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert self.failure is None, self.failure

    def _run(self) -> None:
        running: dict[str, _Guest] = {}
        try:
            with self._place.open() as connection, Lab() as lab:
                while not self._stop.is_set():
                    on = {vm.id: vm for vm in vms_below(connection) if vm.is_on}
                    for gone in running.keys() - on.keys():
                        running.pop(gone).end()
                    for vm in on.values():
                        if vm.id not in running and marks.GUEST_DOCUMENT in vm.extra:
                            running[vm.id] = self._boot(connection, lab, vm)
                        elif vm.id in running and running[vm.id].process.poll() is not None:
                            self._halt(connection, lab, vm, running.pop(vm.id))
                    lab.turn(_LOOK_SECONDS)
                for guest in running.values():
                    guest.end()
        except BaseException as error:  # for the test, which is another thread
            self.failure = error

    def _boot(self, connection: Connection, lab: Lab, vm: Machine) -> _Guest:
        document = json.loads(vm.extra[marks.GUEST_DOCUMENT])
        set_extra(connection, vm, {marks.GUEST_DOCUMENT: "-"})  # as the agent does
        folder = self._place.folder / "guests"
        folder.mkdir(exist_ok=True)
        return _Guest(lab, self._concentrator, vm, document, self._agent, folder)

    def _halt(self, connection: Connection, lab: Lab, vm: Machine, guest: _Guest) -> None:
        lab.until(lambda: not guest.host.out)  # what the guest has said leaves the host first
        guest.end()
        power_off(connection, vm)


class _Guest:
    """The agent of one machine, and the host's connection for its serial port."""

    def __init__(
        self,
        lab: Lab,
        concentrator: tuple[str, int],
        vm: Machine,
        document: dict[str, Any],
        agent: Path,
        folder: Path,
    ) -> None:
        shown = Vm(name=vm.name)
        shown.uuid = vm.instance_uuid
        self.host = Host(lab, concentrator, shown)
        path = folder / f"{vm.id}.json"
        kept = {name: value for name, value in document.items() if name not in MAIN_ONLY}
        path.write_text(json.dumps(kept))
        line = folder / f"{vm.id}.sock"
        line.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(line))
            listener.listen()
            listener.settimeout(30)
            command: list[str | Path] = [sys.executable, agent, "--config", path]
            command += ["--channel", f"unix:{line}"]
            with (folder / f"{vm.id}.log").open("ab") as log:
                self.process = subprocess.Popen(command, stderr=log)
            self._line = _Line(listener.accept()[0], self.host)
        lab.add(self._line)
        lab.each_turn.append(self._carry)

    def _carry(self) -> None:
        """Hand what came for the machine to its agent, and stop the agent while much waits."""
        self._line.out += self.host.vm.received
        self.host.vm.received.clear()
        self._line.reads = len(self.host.out) < _BACKLOG_BYTES

    def end(self) -> None:
        """Be switched off."""
        self.process.kill()
        self.process.wait(10)
        self._line.close()
        self.host.close()


class _Line(Pollable):
    """The agent's end of its serial port."""

    def __init__(self, sock: socket.socket, host: Host) -> None:
        super().__init__(sock)
        self._host = host

    def take(self, data: bytes) -> None:
        self._host.write(data)


@contextlib.contextmanager
def guests(place: Place, concentrator: tuple[str, int]) -> Iterator[None]:
    """Run what is powered on, until the block ends."""
    with Guests(place, concentrator):
        yield
