"""What a client of a relay can do: attach, logs, exec, wait, copy. Library functions, no printing.

Every function takes the Address of a relay: UnixAddress of the socket in its folder, or TlsAddress.
"""

from __future__ import annotations

from agent.host.client.connection import Address, LostError, TlsAddress, UnixAddress
from agent.host.client.keys import DEFAULT_DETACH_KEYS, read_keys
from agent.host.client.pump import Manners
from agent.host.client.verbs import (
    Execution,
    attach,
    describe,
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
    "Address",
    "ChannelError",
    "Execution",
    "LostError",
    "Manners",
    "TlsAddress",
    "UnixAddress",
    "attach",
    "describe",
    "execute",
    "execute_detached",
    "power_off",
    "read_keys",
    "send_signal",
    "stop",
    "wait",
]
