"""A client's byte stream, over a Unix socket or TLS; who is at its other end.

Owns the two kinds of connection and what each proves: a Unix socket the uid (SO_PEERCRED), TLS the
certificate, when the client has one.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from typing import Protocol

from agent.host.relay.access import Identity
from agent.host.relay.sockets import peer_uid
from agent.host.transport import Connection

_READ_BYTES = 65536


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


class TlsChannel:
    """A connection over TLS; its handshake goes on whenever something is read or sent."""

    def __init__(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        accepted.setblocking(False)
        self._socket = context.wrap_socket(
            accepted, server_side=True, do_handshake_on_connect=False
        )
        self._unsent = b""
        self._reading_wants_write = False
        self._writing_wants_read = False
        self._open = False  # the handshake is done

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def blocked(self) -> bool:
        """Whether it takes nothing more now."""
        return bool(self._unsent) or not self._open

    @property
    def wants_write(self) -> bool:
        """Whether it waits for the socket to take bytes."""
        if self._reading_wants_write:
            return True
        return bool(self._unsent) and not self._writing_wants_read

    def receive(self) -> bytes | None:
        """Return what has arrived: empty when nothing has, None when the peer has closed."""
        self._reading_wants_write = False
        try:
            if not self._open:
                self._socket.do_handshake()
                self._open = True
            return self._socket.recv(_READ_BYTES) or None
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLWantWriteError:
            self._reading_wants_write = True
            return b""
        except OSError:  # ssl.SSLError is one
            return None

    def send(self, data: bytes = b"") -> bool:
        """Send, after what is still unsent; return whether all was taken."""
        self._unsent = self._unsent or data
        self._writing_wants_read = False
        try:
            while self._unsent and self._open:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except ssl.SSLWantReadError:
            self._writing_wants_read = True
        except ssl.SSLWantWriteError:
            pass
        except OSError:
            self._unsent = b""  # `receive` reports the close
        return not self._unsent and self._open

    def identity(self, token: str | None) -> Identity:
        """Return who is there: the certificate's fingerprint, which the CA's signature vouches."""
        certificate = self._socket.getpeercert(binary_form=True)
        fingerprint = hashlib.sha256(certificate).hexdigest() if certificate else None
        return Identity(certificate=fingerprint, token=token)

    def shut(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it."""
        self._socket.close()
