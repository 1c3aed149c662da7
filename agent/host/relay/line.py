"""The line to a machine under QEMU, whose chardev connects to a Unix socket of ours.

Owns the socket's path and the one connection. To the relay it is what a line of the concentrator
is (agent.host.vspc.seam.Line), so the relay does not know which of the two it has.
"""

from __future__ import annotations

from agent.host.loop import GONE, READABLE, WRITABLE, Loop
from agent.host.relay.sockets import listen_unix
from agent.host.transport import Connection
from agent.host.vspc.identity import Claims
from agent.host.vspc.seam import LineUser

_QUEUE_BYTES = 65536
_READS = 4  # per turn, so that a fast guest does not starve its clients


class UnixLine:
    """Listen for the hypervisor at `path`; `user` is to be set before the loop runs.

    A new connection takes the place of the one before: the hypervisor has come back before we saw
    it go. Raises ChannelError when the socket cannot be made.
    """

    user: LineUser

    def __init__(self, path: str, loop: Loop, uuid: str) -> None:
        self.uuid = uuid
        self._loop = loop
        self._path = path
        self._listener = listen_unix(path)
        self._connection: Connection | None = None
        self._claims = Claims(address=path, uuid=uuid)
        loop.watch(self._listener.fileno(), READABLE, self._accept)

    # --- seam.Line -------------------------------------------------------------------------------

    @property
    def claims(self) -> Claims | None:
        """What is known of the connection; None when there is none."""
        return None if self._connection is None else self._claims

    def room(self) -> int:
        """Return how many bytes `send` takes now."""
        if self._connection is None or self._connection.blocked:
            return 0
        return _QUEUE_BYTES

    def send(self, data: bytes) -> int:
        """Queue bytes; return how many were taken."""
        if not self.room():
            return 0
        assert self._connection is not None
        taken = data[:_QUEUE_BYTES]
        self._connection.send(taken)
        self._watch()
        return len(taken)

    def resume(self) -> None:
        """Go on reading: the user has room again."""
        self._watch()

    def close(self) -> None:
        """Close listener and connection, and remove the socket's file."""
        self._drop()
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    # --- inside ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        connection = self._connection
        if connection is not None:
            events = READABLE if self.user.room() > 0 else 0
            events |= WRITABLE if connection.blocked else 0
            self._loop.watch(connection.fileno(), events, self._ready)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _address = self._listener.accept()
        except OSError:
            return
        if self._connection is not None:
            self._lose("the hypervisor connected anew")
        self._connection = Connection(accepted)
        self.user.connected(self._claims)
        self._watch()

    def _ready(self, events: int) -> None:
        connection = self._connection
        assert connection is not None
        if events & WRITABLE and connection.send():
            self.user.writable()
        if events & (READABLE | GONE):
            for _ in range(_READS):
                if self._connection is not connection or not self.user.room():
                    break
                data = connection.receive()
                if data is None:
                    self._lose("the hypervisor closed the connection")
                    return
                if not data:
                    break
                self.user.receive(data)
        if events & GONE and self._connection is connection and not self.user.room():
            self._loop.forget(connection.fileno())  # would be reported for ever; `resume` goes on
            return
        self._watch()

    def _lose(self, why: str) -> None:
        self._drop()
        self.user.lost(why)

    def _drop(self) -> None:
        if self._connection is not None:
            self._loop.forget(self._connection.fileno())
            self._connection.close()
            self._connection = None
