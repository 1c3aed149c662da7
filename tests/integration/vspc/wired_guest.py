"""A guest behind the serial port of a simulated VM: a real guest end of the protocol.

It writes where its VM runs, and is frozen where it does not, as in a vMotion. A `Lab` drives it.
"""

from __future__ import annotations

import os
import time

from agent.wire import Endpoint, Role
from tests.integration.relay_guest import Program
from tests.integration.vspc.simulated_esxi import Host, Lab, Vm

_OUT_BYTES = 65536  # that wait at the host


class WiredGuest:
    """A guest with a key that runs `program`; `host` is where its VM runs, None when it is off."""

    def __init__(self, lab: Lab, vm: Vm, key: bytes, program: Program) -> None:
        self.vm = vm
        self.program = program
        self.host: Host | None = None
        self.done = False  # the host knows how the program ended
        self.frozen = False
        self.endpoint = Endpoint(
            Role.GUEST,
            key,
            nonce=os.urandom(16),
            max_payload=4096,
            window=32768,
            now=time.monotonic(),
        )
        lab.each_turn.append(self.turn)

    def turn(self) -> None:
        """Do what a guest does in one turn of its loop."""
        host = self.host
        if self.frozen or host is None or not host.running or host.closed:
            return
        now = time.monotonic()
        came = bytes(self.vm.received)
        self.vm.received.clear()
        events = self.endpoint.receive(came, now) if came else []
        events += self.endpoint.tick(now)
        self.done = self.program(self, events)  # type: ignore[arg-type]  # it needs an endpoint
        while len(host.out) < _OUT_BYTES and (data := self.endpoint.data_to_send(now, 4096)):
            host.write(data)
