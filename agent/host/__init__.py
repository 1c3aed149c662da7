"""The host end of the channel: the socket, the relay of one run, the terminal, the signals.

Imports `agent.wire` and the standard library, never `converter`: who drives machines calls this.
"""

from __future__ import annotations

from agent.host.errors import (
    AbortedError,
    AccessError,
    ChannelError,
    CopyError,
    DetachedError,
    GuestFaultError,
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
    OutputError,
    RelayError,
    RequestError,
)
from agent.host.signals import SignalInbox, catch_signals
from agent.host.status import ExitStatus, Failure
from agent.host.stdio import Stdio
from agent.host.terminal import raw_mode, window_size
from agent.host.transport import UnixListener, private_directory

__all__ = [
    "AbortedError",
    "AccessError",
    "ChannelError",
    "CopyError",
    "DetachedError",
    "ExitStatus",
    "Failure",
    "GuestFaultError",
    "GuestLostError",
    "MachineEndedError",
    "NeverConnectedError",
    "NoHelloError",
    "OutputError",
    "RelayError",
    "RequestError",
    "SignalInbox",
    "Stdio",
    "UnixListener",
    "catch_signals",
    "private_directory",
    "raw_mode",
    "window_size",
]
