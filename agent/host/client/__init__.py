"""What a client of a relay can do: attach, logs, exec, wait, copy. Library functions, no printing.

Every function takes the Address of a relay: UnixAddress of the socket in its folder, or TlsAddress.
"""

from __future__ import annotations

from agent.host.client.conditions import UNANSWERED
from agent.host.client.connection import Address, LostError, TlsAddress, UnixAddress
from agent.host.client.copy import copy_in, copy_out, receive_archive, send_archive
from agent.host.client.ending import kill, stop_and_wait
from agent.host.client.keys import DEFAULT_DETACH_KEYS, read_keys
from agent.host.client.logs import (
    Note,
    Output,
    Query,
    lines,
    logs,
    saved_logs,
    saved_network,
    saved_status,
)
from agent.host.client.pump import Manners
from agent.host.client.ready import describe, until_started
from agent.host.client.unpack import Limits, Unpacked
from agent.host.client.verbs import (
    Execution,
    attach,
    execute,
    execute_detached,
    power_off,
    send_signal,
    stop,
    wait,
)
from agent.host.errors import ChannelError

__all__ = [
    "DEFAULT_DETACH_KEYS",
    "UNANSWERED",
    "Address",
    "ChannelError",
    "Execution",
    "Limits",
    "LostError",
    "Manners",
    "Note",
    "Output",
    "Query",
    "TlsAddress",
    "UnixAddress",
    "Unpacked",
    "attach",
    "copy_in",
    "copy_out",
    "describe",
    "execute",
    "execute_detached",
    "kill",
    "lines",
    "logs",
    "power_off",
    "read_keys",
    "receive_archive",
    "saved_logs",
    "saved_network",
    "saved_status",
    "send_archive",
    "send_signal",
    "stop",
    "stop_and_wait",
    "until_started",
    "wait",
]
