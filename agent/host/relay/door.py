"""Where clients come in: a Unix socket, or TCP inside TLS. Owns the listeners and their count.

Many machines may be behind one door; a client's HELLO names the one that it wants.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.loop import READABLE, Loop
from agent.host.relay.access import Access, LocalAccess
from agent.host.relay.c_relay import MAX_CLIENTS
from agent.host.relay.channel import Channel, LocalChannel, TlsChannel
from agent.host.relay.clients import Client
from agent.host.relay.machine import MachineRelay
from agent.host.relay.sockets import listen_unix


class Door:
    """Accept clients at `listener` and serve them; at most `most` at a time, others wait."""

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        *,
        find: Callable[[str], MachineRelay | None],
        access: Access,
        wrap: Callable[[socket.socket], Channel],
        most: int = MAX_CLIENTS,
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._find = find
        self._access = access
        self._wrap = wrap
        self._most = most
        self._clients: set[Client] = set()
        self._open = True
        self._watch()

    @property
    def address(self) -> tuple[str, int]:
        """Return the TCP address that is listened at; the system may have chosen its port."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def clients(self) -> int:
        """Return how many are inside."""
        return len(self._clients)

    def close(self) -> None:
        """Let nobody in any more, and let everybody go."""
        if self._open:
            self._open = False
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            for client in list(self._clients):
                client.close()

    def _watch(self) -> None:
        events = READABLE if len(self._clients) < self._most else 0
        self._loop.watch(self._listener.fileno(), events, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _address = self._listener.accept()
        except OSError:
            return
        try:
            channel = self._wrap(accepted)
        except OSError:
            accepted.close()
            return
        client = Client(channel, self._loop, self._access, find=self._find, closed=self._forget)
        self._clients.add(client)
        self._watch()

    def _forget(self, client: Client) -> None:
        self._clients.discard(client)
        if self._open:
            self._watch()


def local_door(
    path: Path, loop: Loop, *, find: Callable[[str], MachineRelay | None], most: int = MAX_CLIENTS
) -> Door:
    """Open a door at a Unix socket of mode 0600, for its owner and root. Raises ChannelError.

    Its folder should be 0700. The socket's file stays when the door closes: the next listener
    takes its place.
    """
    listener = listen_unix(os.fspath(path))
    return Door(listener, loop, find=find, access=LocalAccess(), wrap=LocalChannel, most=most)


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


def server_context(
    certificate: Path, key: Path, client_ca: Path | None, *, need_certificate: bool = False
) -> ssl.SSLContext:
    """Return the TLS settings of a door. Without `client_ca`, clients have tokens only.

    Raises ChannelError when the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED if need_certificate else ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        raise ChannelError(
            f"The relay's certificate cannot be used: {error}.",
            expected="PEM files of a certificate, its key, and of who signs the clients'",
        ) from error
    return context
