"""A concentrator with relays, the machines that were added to it, and its clients.

Owns certificates, rules and the command lines; nothing here waits by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from agent.host import client as clients
from tests.integration import warm
from tests.integration.relay_guest import Program
from tests.integration.vspc.simulated_esxi import (
    Concentrator,
    Host,
    Lab,
    Vm,
    concentrator,
)
from tests.integration.vspc.wired_guest import WiredGuest

RULES = "rules.json"


def saltflat(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    done = warm.COMMANDS.run(arguments, stdin=b"", environment={**os.environ}, timeout_seconds=120)
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


class Site:
    """A directory of relays, and what is needed to run and to reach a concentrator on it."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path]) -> None:
        self.folder = folder
        self.relays = folder / "relays"
        self.certificate = certificate
        self.rules = folder / RULES
        self.write_rules()

    def add(self, vm: Vm, *, by_name: bool = False) -> bytes:
        """Add a VM as a machine of its name; return its key."""
        uuid = [] if by_name else ["--uuid", vm.uuid]
        return self._key("add", vm.name, *uuid)

    def rekey(self, vm: Vm) -> bytes:
        """Give a machine another key; return it."""
        return self._key("rekey", vm.name)

    def _key(self, verb: str, *arguments: str) -> bytes:
        made = saltflat("vspc", verb, *arguments, "--document", "-", *self.directory)
        return bytes.fromhex(json.loads(made.stdout)["key"])

    @property
    def directory(self) -> list[str]:
        return ["--relays", os.fspath(self.relays)]

    def write_rules(self, **allow: list[str]) -> None:
        """Write the rules: what the certificate may do, and the token "secret"; else everything."""
        der = ssl.PEM_cert_to_DER_cert(self.certificate[0].read_text())
        proofs = {
            "certificate": hashlib.sha256(der).hexdigest(),
            "token": hashlib.sha256(b"secret").hexdigest(),
        }
        rules = [
            {kind: proof, "machines": ["*"], "allow": allow.get(kind, ["*"])}
            for kind, proof in proofs.items()
        ]
        new = self.folder / "rules.new"
        new.write_text(json.dumps({"schema": 1, "clients": rules}))
        new.replace(self.rules)

    @contextlib.contextmanager
    def serving(self, *arguments: str, sockets: bool = False) -> Iterator[Concentrator]:
        """Run the concentrator, with a door for clients over TLS."""
        certificate, key = map(os.fspath, self.certificate)
        options = ["--certificate", certificate, "--key", key, "--clients", "127.0.0.1:0"]
        options += ["--client-rules", os.fspath(self.rules), "--client-ca", certificate]
        with concentrator(
            self.folder, *self.directory, *options, *arguments, sockets=sockets
        ) as running:
            self.clients_port(running)  # the last thing that it opens
            yield running

    def local(self, vm: Vm) -> clients.UnixAddress:
        """Return the address of a machine at the owner's socket."""
        return clients.UnixAddress(self.relays / "relay.sock", vm.name)

    def remote(
        self, server: Concentrator, vm: Vm, *, certificate: bool = True, token: str | None = None
    ) -> clients.TlsAddress:
        """Return the address of a machine over TLS."""
        context = ssl.create_default_context(cafile=self.certificate[0])
        if certificate:
            context.load_cert_chain(*self.certificate)
        return clients.TlsAddress("127.0.0.1", self.clients_port(server), vm.name, context, token)

    def clients_port(self, server: Concentrator) -> int:
        return server.port("Clients are let in at ")


def boot(
    lab: Lab, server: Concentrator, vm: Vm, key: bytes, program: Program
) -> tuple[WiredGuest, Host]:
    """Power a VM on with a guest in it."""
    guest = WiredGuest(lab, vm, key, program)
    guest.host = host = Host(lab, server.address, vm)
    return guest, host
