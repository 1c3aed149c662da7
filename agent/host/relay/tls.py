"""Clients over TCP inside TLS: their connection, the door where they come in, its settings.

The certificate proves who a client is, when it has one. A module of its own because ssl takes a
supervisor's time to load, which has no such door.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.loop import Loop
from agent.host.relay.access import Access, Identity
from agent.host.relay.c_relay import MAX_CLIENTS
from agent.host.relay.channel import Channel
from agent.host.relay.door import Door
from agent.host.relay.machine import MachineRelay

_READ_BYTES = 65536


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


def tls_door(
    address: tuple[str, int],
    loop: Loop,
    *,
    find: Callable[[str], MachineRelay | None],
    access: Access,
    context: ssl.SSLContext,
    most: int = MAX_CLIENTS,
) -> Door:
    """Open a door at a TCP address, inside TLS. Raises ChannelError."""
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.create_server(
            address,
            family=family,
            backlog=64,
            dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise ChannelError(f"{address[0]}:{address[1]} cannot be listened at: {error}.") from error
    listener.setblocking(False)

    def wrap(accepted: socket.socket) -> Channel:
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return TlsChannel(accepted, context)

    return Door(listener, loop, find=find, access=access, wrap=wrap, most=most)


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Return the TLS settings of a door. Without `client_ca`, clients have tokens only.

    Raises ChannelError when the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        raise ChannelError(
            f"The relay's certificate cannot be used: {error}.",
            expected="PEM files of a certificate, its key, and of who signs the clients'",
        ) from error
    return context
