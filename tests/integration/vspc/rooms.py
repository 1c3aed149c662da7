"""A concentrator with those who talk to it, and a connection that says nearly nothing."""

from __future__ import annotations

import socket
import ssl

from tests.integration.vspc.simulated_esxi import (
    Client,
    Concentrator,
    Host,
    Lab,
    Pollable,
    Vm,
    connect,
    migrate,
)


class Room:
    """A concentrator, and how hosts reach it."""

    def __init__(self, server: Concentrator, context: ssl.SSLContext | None) -> None:
        self.server = server
        self.context = context
        self.lab = Lab()
        self.numbers = iter(range(1, 1000))
        self.slow = Raw(server, b"\x16\x03")  # a TLS record begins so, and a telnet client does not

    def vm(self) -> Vm:
        return Vm(next(self.numbers))

    def host(self, vm: Vm, **options: object) -> Host:
        return Host(self.lab, self.server.address, vm, context=self.context, **options)

    def connect(self, vm: Vm) -> Host:
        return connect(self.lab, self.server, vm, context=self.context)

    def client(self, vm: Vm) -> Client:
        return Client(self.lab, self.server.socket_of(vm))

    def migrate(self, source: Host, **options: object) -> Host:
        return migrate(self.lab, self.server.address, source, context=self.context, **options)


class Raw(Pollable):
    """A TCP connection that says a few bytes and then nothing."""

    def __init__(self, server: Concentrator, data: bytes) -> None:
        super().__init__(socket.create_connection(server.address))
        self.socket.send(data)

    def take(self, data: bytes) -> None:
        pass
