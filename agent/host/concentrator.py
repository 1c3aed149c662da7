"""The whole concentrator: lines from hosts, relays of machines, and doors for clients, on one loop.

Owns how these are put together and the order in which they go. What each does is in `vspc` and
`relay`; what a user says of them, and who hears the notices, is the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.host.loop import READABLE, Loop
from agent.host.relay import SOCKET_NAME, RelayOptions, local_door
from agent.host.relay.door import Door
from agent.host.relay.many import Machines
from agent.host.relay.roster import Roster
from agent.host.relay.rules_file import RulesFile
from agent.host.relay.tls import server_context, tls_door
from agent.host.signals import SignalInbox
from agent.host.vspc.allow import AllowList
from agent.host.vspc.seam import Backend, Notice
from agent.host.vspc.server import (
    DESCRIPTORS_FOR_A_RELAY,
    DESCRIPTORS_FOR_A_SOCKET,
    Address,
    Server,
    tls_context,
)
from agent.host.vspc.sockets import SocketBackend

Log = Callable[[Notice], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A chain and its key, both PEM files; they may be one."""

    chain: Path
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDoor:
    """Where clients are let in over TLS: `rules` says who may do what, `ca` vouches for them."""

    host: str  # empty: every address of this machine
    port: int
    certificate: Certificate
    rules: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """The machines that are relayed: their folder, how, and where clients elsewhere come in."""

    folder: Path
    options: RelayOptions
    door: RemoteDoor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concentrator:
    """What to serve. Of `sockets` (a folder) and `relaying` there is at least one."""

    addresses: Sequence[Address]
    allow: AllowList
    certificate: Certificate | None = None
    sockets: Path | None = None
    relaying: Relaying | None = None


def serve(concentrator: Concentrator, inbox: SignalInbox, log: Log) -> None:
    """Serve until a signal arrives in `inbox`.

    Raises ChannelError when an address, a certificate, a folder or rules cannot be used, BusyError
    when another process serves the machines.
    """
    given = concentrator.certificate
    context = None if given is None else tls_context(given.chain, given.key)
    with contextlib.ExitStack() as cleanup:
        loop = Loop()
        cleanup.callback(loop.close)
        backend: Backend | None = None
        if concentrator.sockets is not None:
            backend = sockets = SocketBackend(concentrator.sockets, loop, log)
            cleanup.callback(sockets.close)
        machines = None
        relaying = concentrator.relaying
        if relaying is not None:
            roster = Roster(relaying.folder)
            backend = machines = Machines(
                roster, loop, log=log, options=relaying.options, strangers=backend
            )
            cleanup.callback(machines.close)
        if backend is None:
            raise ValueError("neither sockets nor relays: nobody would use the lines")
        server = Server(
            concentrator.addresses,
            backend,
            concentrator.allow,
            loop,
            context=context,
            log=log,
            descriptors_for_a_vm=(
                DESCRIPTORS_FOR_A_SOCKET if machines is None else DESCRIPTORS_FOR_A_RELAY
            ),
        )
        cleanup.callback(server.close)
        if relaying is not None and machines is not None:
            socket = machines.roster.directory / SOCKET_NAME
            local = local_door(socket, loop, find=machines.find, most=server.capacity)
            cleanup.callback(local.close)
            if relaying.door is not None:
                remote = _remote_door(relaying.door, machines, server.capacity, log)
                cleanup.callback(remote.close)
        loop.watch(inbox.fileno(), READABLE, lambda _events: loop.stop())
        loop.run()


def _remote_door(door: RemoteDoor, machines: Machines, most: int, log: Log) -> Door:
    """Return the door by which clients come in over TLS."""
    chain, key = door.certificate.chain, door.certificate.key
    remote = tls_door(
        (door.host, door.port),
        machines.loop,
        find=machines.find,
        access=RulesFile(door.rules, log),
        context=server_context(chain, key or chain, door.ca),
        most=most,
    )
    host, port = remote.address
    log(Notice(f"Clients are let in at {f'[{host}]' if ':' in host else host}:{port}"))
    return remote
