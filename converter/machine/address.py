"""The address of a machine's relay, which sees to it that there is one when it is asked for."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.host.client import UnixAddress
from agent.host.errors import ChannelError

_SECONDS = 10.0
_AGAIN_SECONDS = 0.01  # one that is leaving has closed its door, but not the lock


@dataclass(frozen=True)
class MachineAddress(UnixAddress):
    """The socket in a relay's folder. `adopt` is called when nobody answers there.

    So a client whose relay was killed goes on with another one, which its own coming back started.
    """

    adopt: Callable[[], None] = lambda: None

    def connect(self, seconds: float) -> socket.socket:
        """Return a connected socket. Raises ChannelError, and what `adopt` raises."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                return super().connect(seconds)
            except ChannelError:
                if time.monotonic() > deadline:
                    raise
            self.adopt()
            time.sleep(_AGAIN_SECONDS)
