"""The protocol between host and guest, sans I/O, the same module on both ends.

docs/protocol.md is the specification. Standard library only, Python 3.8: guests choose their own
Python.
"""

from __future__ import annotations

from agent.wire.c_frame import (
    CONTROL,
    CONTROL_LIMIT,
    LAST_PROCESS,
    MAX_PROCESSES,
    PROTOCOL_VERSION,
    STDERR,
    STDIN,
    STDOUT,
    Reason,
    Role,
)
from agent.wire.endpoint import Endpoint
from agent.wire.events import (
    Closed,
    Console,
    Control,
    ControlFullError,
    Counters,
    Data,
    Established,
    Event,
    Finished,
    Gap,
    Opened,
    Position,
    ProtocolError,
    RefusedError,
    Unopened,
    Writable,
)
from agent.wire.state import SessionState
from agent.wire.stream_ids import kind_of, process_of, stream_of

__all__ = [
    "CONTROL",
    "CONTROL_LIMIT",
    "LAST_PROCESS",
    "MAX_PROCESSES",
    "PROTOCOL_VERSION",
    "STDERR",
    "STDIN",
    "STDOUT",
    "Closed",
    "Console",
    "Control",
    "ControlFullError",
    "Counters",
    "Data",
    "Endpoint",
    "Established",
    "Event",
    "Finished",
    "Gap",
    "Opened",
    "Position",
    "ProtocolError",
    "Reason",
    "RefusedError",
    "Role",
    "SessionState",
    "Unopened",
    "Writable",
    "kind_of",
    "process_of",
    "stream_of",
]
