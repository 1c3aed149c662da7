"""The relay: alone holds a machine's key and line, keeps its session and log, serves clients.

`RelayServer` is the one for QEMU; `MachineRelay` behind a line of the concentrator, with a `Door`
for clients, is the one for many machines. docs/relay.md specifies log, files and client protocol.
"""

from __future__ import annotations

from agent.host.relay.access import Identity, LocalAccess, Rules, read_rules
from agent.host.relay.condition import Condition, Diagnosis, Patience
from agent.host.relay.door import Door, local_door, server_context, tls_door
from agent.host.relay.keys import read_key, write_key
from agent.host.relay.machine import MachineRelay
from agent.host.relay.server import SOCKET_NAME, RelayServer
from agent.host.relay.session import RelayOptions

__all__ = [
    "SOCKET_NAME",
    "Condition",
    "Diagnosis",
    "Door",
    "Identity",
    "LocalAccess",
    "MachineRelay",
    "Patience",
    "RelayOptions",
    "RelayServer",
    "Rules",
    "local_door",
    "read_key",
    "read_rules",
    "server_context",
    "tls_door",
    "write_key",
]
