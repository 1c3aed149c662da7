"""A virtual serial port concentrator: the host end of VMware's telnet extension (option 232).

docs/vspc.md says how to run it. From the bytes up: `telnet` and `options` (telnet itself),
`session` (one connection's dialogue), `line` (one VM over all its connections), `registry` (all
VMs), and around these `loop`, `connection` and `server` (the I/O). `seam` is what a user of lines
implements; `sockets` is one such user.
"""

from __future__ import annotations

from agent.host.loop import Loop
from agent.host.vspc.allow import AllowList, read_rule
from agent.host.vspc.errors import BusyError, ListenError, RuleError
from agent.host.vspc.identity import Claims
from agent.host.vspc.seam import Backend, Line, LineUser, Log, Notice
from agent.host.vspc.server import (
    DESCRIPTORS_FOR_A_RELAY,
    DESCRIPTORS_FOR_A_SOCKET,
    Address,
    Server,
    read_address,
    tls_context,
)
from agent.host.vspc.sockets import SocketBackend

__all__ = [
    "DESCRIPTORS_FOR_A_RELAY",
    "DESCRIPTORS_FOR_A_SOCKET",
    "Address",
    "AllowList",
    "Backend",
    "BusyError",
    "Claims",
    "Line",
    "LineUser",
    "ListenError",
    "Log",
    "Loop",
    "Notice",
    "RuleError",
    "Server",
    "SocketBackend",
    "read_address",
    "read_rule",
    "tls_context",
]
