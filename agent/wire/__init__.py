"""The protocol between host and guest, sans I/O, the same module on both ends.

docs/protocol.md is the specification. Standard library only, Python 3.8: guests choose their own
Python.
"""

from __future__ import annotations

from agent.wire.c_frame import (
    CONTROL,
    CONTROL_LIMIT,
    PROTOCOL_VERSION,
    STDERR,
    STDIN,
    STDOUT,
    Role,
)
from agent.wire.endpoint import Endpoint
from agent.wire.events import (
    Console,
    Control,
    Counters,
    Data,
    Established,
    Event,
    Finished,
    ProtocolError,
    Writable,
)

__all__ = [
    "CONTROL",
    "CONTROL_LIMIT",
    "PROTOCOL_VERSION",
    "STDERR",
    "STDIN",
    "STDOUT",
    "Console",
    "Control",
    "Counters",
    "Data",
    "Endpoint",
    "Established",
    "Event",
    "Finished",
    "ProtocolError",
    "Role",
    "Writable",
]
