"""The relay: alone holds a machine's key and line, keeps its session and log, serves clients.

`RelayServer` is the one for QEMU; `Machines` behind the lines of the concentrator, with a `Door`
for clients, is the one for many machines, which a `Roster` knows. docs/relay.md specifies log,
files and client protocol.
"""

from __future__ import annotations

from agent.host.relay.access import Identity, LocalAccess, Rules, read_rules
from agent.host.relay.condition import Condition, Diagnosis, LineKind, Patience
from agent.host.relay.door import Door, local_door, server_context, tls_door
from agent.host.relay.keys import read_key, write_key
from agent.host.relay.machine import MachineRelay
from agent.host.relay.many import Machines
from agent.host.relay.roster import Enrolment, MachineExistsError, NoMachineError, Roster
from agent.host.relay.rules_file import RulesFile
from agent.host.relay.server import SOCKET_NAME, RelayServer
from agent.host.relay.session import RelayOptions

__all__ = [
    "SOCKET_NAME",
    "Condition",
    "Diagnosis",
    "Door",
    "Enrolment",
    "Identity",
    "LineKind",
    "LocalAccess",
    "MachineExistsError",
    "MachineRelay",
    "Machines",
    "NoMachineError",
    "Patience",
    "RelayOptions",
    "RelayServer",
    "Roster",
    "Rules",
    "RulesFile",
    "local_door",
    "read_key",
    "read_rules",
    "server_context",
    "tls_door",
    "write_key",
]
