"""Where clients come in: a Unix socket, or TCP inside TLS (tls.py). Owns listener and count.

Many machines may be behind one door; a client's HELLO names the one that it wants.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from agent.host.loop import READABLE, Loop
from agent.host.relay.access import Access, LocalAccess
from agent.host.relay.c_relay import MAX_CLIENTS
from agent.host.relay.channel import Channel, LocalChannel
from agent.host.relay.clients import Client
from agent.host.relay.machine import MachineRelay
from agent.host.relay.sockets import listen_unix

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_PAUSE_SECONDS = 1.0  # of accepting, when there is none


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
        if self._open:
            events = READABLE if len(self._clients) < self._most else 0
            self._loop.watch(self._listener.fileno(), events, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _address = self._listener.accept()
        except OSError as error:  # gone again
            if error.errno in _NO_DESCRIPTOR:  # or it would be said for ever
                self._loop.forget(self._listener.fileno())
                self._loop.call_at(self._loop.now() + _PAUSE_SECONDS, self._watch)
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
