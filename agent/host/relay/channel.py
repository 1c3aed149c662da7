"""A client's byte stream, and who is at its other end.

Owns what a dialogue needs of a connection, and the one over a Unix socket, which proves the uid
(SO_PEERCRED); tls.py has the other.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol

from agent.host.relay.access import Identity
from agent.host.relay.sockets import peer_uid
from agent.host.transport import Connection


class Channel(Protocol):
    """What a client's dialogue needs of its connection; see transport.Connection."""

    @property
    def blocked(self) -> bool:
        """Whether it takes nothing more now."""

    @property
    def wants_write(self) -> bool:
        """Whether it waits for the socket to take bytes."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def receive(self) -> bytes | None:
        """Return what has arrived: empty when nothing has, None when the peer has closed."""

    def send(self, data: bytes = b"") -> bool:
        """Send, after what is still unsent; return whether all was taken."""

    def identity(self, token: str | None) -> Identity:
        """Return who is there."""

    def shut(self) -> None:
        """Say that nothing more comes."""

    def close(self) -> None:
        """Close it."""


class LocalChannel(Connection):
    """A connection over a Unix socket."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted)
        self._accepted = accepted
        self.uid = peer_uid(accepted)

    @property
    def wants_write(self) -> bool:
        """Whether it waits for the socket to take bytes."""
        return self.blocked

    def identity(self, token: str | None) -> Identity:
        """Return who is there."""
        return Identity(uid=self.uid, token=token)

    def shut(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):
            self._accepted.shutdown(socket.SHUT_WR)
