"""The three ways in which a machine does not answer, through the command line: each its own error.

The guest is frozen where a real one would hang; the host's connection is a simulated ESXi's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import client as clients
from tests.integration.relay_guest import Program
from tests.integration.vspc.relayed import Site, boot
from tests.integration.vspc.simulated_esxi import MAIN, Concentrator, Host, Lab, Vm

pytestmark = pytest.mark.integration

PATIENCE = ("connect=1", "hello=1", "silence=1.5", "reconnect=1")
NEVER_CONNECTED = ("The hypervisor has not connected", "lets remoteSerialPort out")
NO_HELLO = ("connected, but the guest has not said hello", "another key than this relay")
SILENT = ("said hello, but then went silent", "the VM is suspended")
DISCONNECTED = ("said hello, but its line closed", "The VM was powered off")


class Bench:
    """A concentrator that loses patience soon, and a machine."""

    def __init__(self, lab: Lab, site: Site, server: Concentrator) -> None:
        self.lab, self.site, self.server = lab, site, server
        self.vm = Vm(1, name="db-1")
        self.key = site.add(self.vm)

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb on the machine while the simulated host goes on."""
        command = [sys.executable, "-c", MAIN, verb, "--relay"]
        command += [f"unix:{self.site.relays / 'relay.sock'}", *arguments]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                self.lab.until(lambda: process.poll() is not None)
            finally:
                process.kill()
            out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def expect(self, said: tuple[str, str], cause: str) -> None:
        """Check what attach, exec and exec -d say of the machine."""
        for verb, *arguments in (
            ("attach", "--no-stdin", "db-1"),
            ("exec", "db-1", "true"),
            ("exec", "-d", "db-1", "true"),
        ):
            done = self.run(verb, *arguments)
            assert done.returncode == 125, (verb, done.stderr)
            what, hint = done.stderr.split("Next: ")
            assert said[0] in what, verb
            assert said[1] in hint, verb
        assert clients.describe(self.site.local(self.vm))["condition"] == cause


@pytest.fixture
def bench(lab: Lab, tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[Bench]:
    site = Site(tmp_path, certificate)
    patience = [word for one in PATIENCE for word in ("--patience", one)]
    with site.serving(*patience) as server:
        yield Bench(lab, site, server)


def test_the_hypervisor_never_connected(bench: Bench) -> None:
    bench.expect(NEVER_CONNECTED, "never-connected")


def test_it_connected_but_the_guest_never_said_hello(bench: Bench) -> None:
    host = Host(bench.lab, bench.server.address, bench.vm)
    bench.lab.until(lambda: host.served)
    host.write(b"[    0.0] Linux version, and no agent\n")
    bench.expect(NO_HELLO, "no-hello")


def test_a_guest_with_another_key_has_not_said_hello(bench: Bench) -> None:
    boot(bench.lab, bench.server, bench.vm, os.urandom(32), Program(out=b"x", ends=False))
    bench.expect(NO_HELLO, "no-hello")


def test_the_guest_said_hello_and_went_silent(bench: Bench) -> None:
    guest, _host = boot(bench.lab, bench.server, bench.vm, bench.key, Program(ends=False))
    bench.lab.until(lambda: guest.endpoint.established)
    guest.frozen = True
    bench.expect(SILENT, "silent")
    guest.frozen = False  # and it answers again
    bench.lab.until(lambda: clients.describe(bench.site.local(bench.vm))["condition"] == "alive")
    done = bench.run("exec", "db-1", "5")
    assert (done.returncode, done.stdout) == (5, "5\n"), done.stderr


def test_the_guest_said_hello_and_its_line_closed(bench: Bench) -> None:
    guest, host = boot(bench.lab, bench.server, bench.vm, bench.key, Program(ends=False))
    bench.lab.until(lambda: guest.endpoint.established)
    host.close()
    bench.expect(DISCONNECTED, "disconnected")


def test_a_relay_that_was_restarted_says_the_same(bench: Bench) -> None:
    """It has to learn where the guest stands before it can start anything there."""
    guest, _host = boot(bench.lab, bench.server, bench.vm, bench.key, Program(ends=False))
    bench.lab.until(lambda: guest.endpoint.established)
    bench.server.process.kill()
    bench.server.process.wait()
    patience = [word for one in PATIENCE for word in ("--patience", one)]
    with bench.site.serving(*patience):
        bench.expect(DISCONNECTED, "disconnected")


def test_a_session_that_another_relay_began(bench: Bench) -> None:
    """The key is the same, the journal is lost: that is said, and what to do."""
    guest, host = boot(bench.lab, bench.server, bench.vm, bench.key, Program(ends=False))
    bench.lab.until(lambda: guest.endpoint.established)
    bench.server.process.kill()
    bench.server.process.wait()
    (bench.site.relays / "machines" / "db-1" / "journal").unlink()
    host.close()
    with bench.site.serving() as bench.server:
        guest.endpoint.transport_lost()
        guest.host = Host(bench.lab, bench.server.address, bench.vm)
        bench.expect(("a session that this relay does not know", "vspc rekey"), "forgotten")
