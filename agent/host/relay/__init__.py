"""The relay: alone holds a machine's key and line, keeps its session and log, serves clients.

`RelayServer` is the one for QEMU; `many.Machines` behind the lines of the concentrator, with a
`Door` for clients, or a `tls.tls_door`, is the one for many machines, which a `roster.Roster`
knows: these are imported by name, since a machine's supervisor has to start quickly. docs/relay.md
specifies log, files and client protocol.
"""

from __future__ import annotations

from agent.host.relay.access import Identity, LocalAccess, Rules, read_rules
from agent.host.relay.condition import (
    PATIENCE_VARIABLE,
    Condition,
    Diagnosis,
    LineKind,
    Patience,
    read_patience,
)
from agent.host.relay.door import Door, local_door
from agent.host.relay.keys import read_key, write_key
from agent.host.relay.machine import MachineRelay
from agent.host.relay.options import RelayOptions
from agent.host.relay.server import SOCKET_NAME, RelayServer

__all__ = [
    "PATIENCE_VARIABLE",
    "SOCKET_NAME",
    "Condition",
    "Diagnosis",
    "Door",
    "Identity",
    "LineKind",
    "LocalAccess",
    "MachineRelay",
    "Patience",
    "RelayOptions",
    "RelayServer",
    "Rules",
    "local_door",
    "read_key",
    "read_patience",
    "read_rules",
    "write_key",
]
