"""A stream socket as the line to the host: one that connects, and one that is connected to.

Owns making the connection anew whenever it is lost. The address family is a parameter: guests use
AF_VSOCK, over VMCI or virtio, and tests AF_UNIX.
"""

from __future__ import annotations

import errno
import select

from agent import bare_socket as socket
from agent.hints import TYPE_CHECKING, Callable, List, Optional, Tuple, Union

if TYPE_CHECKING:
    from agent.tether.channel import Limits

Address = Union[str, Tuple[int, int]]  # as the family has it
RETRY_SECONDS = 1.0
READ_BYTES = 65536


class _Connection:
    """What both have in common: reading and writing whatever connection there is."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.descriptors: Tuple[int, ...] = ()
        self._always: List[int] = []  # what is waited on besides the connection
        self._old: List[socket.socket] = []
        self._socket: Optional[socket.socket] = None
        self._lost = False  # and `read` has not said so yet

    def read(self) -> Optional[bytes]:
        """Return what has come, b"" when a connection was lost, None when nothing waits."""
        if self._lost:
            self._lost = False
            return b""
        if self._socket is None or not self._is_ready(self._socket):
            return self.read() if self._lost else None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""  # reset by the peer, and its kin
        if not data:
            self._drop()
            return self.read()
        return data

    def write(self, data: Union[bytes, memoryview]) -> int:
        """Hand over bytes and return how many were taken; `read` tells of a lost connection."""
        if self._socket is None or not self._is_ready(self._socket):
            return 0
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._drop()
            return 0

    def _is_ready(self, _connection: socket.socket) -> bool:
        return True

    def close_old(self) -> None:
        """Close the connections that were lost. Until then nobody else gets their numbers."""
        while self._old:
            self._old.pop().close()

    def _take(self, connection: socket.socket) -> None:
        self._socket = connection
        self.descriptors = (*self._always, connection.fileno())

    def _drop(self) -> None:
        if self._socket is not None:
            self._old.append(self._socket)
            self._socket = None
            self._lost = True
            self.descriptors = tuple(self._always)


class Connecting(_Connection):
    """Connects to the host, and again a second after it failed or the connection was lost."""

    def __init__(self, family: int, address: Address, *, limits: Limits) -> None:
        super().__init__(limits)
        self._family = family
        self._address = address
        self._retry_at = 0.0
        self._under_way = False

    def deadline(self) -> Optional[float]:
        """Return when to try again."""
        return self._retry_at if self._socket is None else None

    def revive(self, now: float) -> None:
        """Begin to connect, if it is time."""
        if self._socket is not None or now < self._retry_at:
            return
        self._retry_at = now + RETRY_SECONDS
        connection = socket.socket(self._family, socket.SOCK_STREAM)
        connection.setblocking(False)
        code = connection.connect_ex(self._address)
        if code in (0, errno.EINPROGRESS):
            self._take(connection)
            self._under_way = code != 0
        else:
            connection.close()

    def _is_ready(self, connection: socket.socket) -> bool:
        if self._under_way:
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            if not poll.poll(0):
                return False
            self._under_way = False
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._drop()
                return False
        return True


class Listening(_Connection):
    """Waits for the host; who connects later replaces who was there, if `admits` likes it."""

    def __init__(
        self, listener: socket.socket, *, limits: Limits, admits: Callable[[Tuple[int, int]], bool]
    ) -> None:
        super().__init__(limits)
        self._listener = listener
        self._admits = admits
        listener.setblocking(False)
        listener.listen(1)
        self._always.append(listener.fileno())
        self.descriptors = (listener.fileno(),)

    def deadline(self) -> Optional[float]:
        """Return None: the listening socket says when there is something to do."""

    def revive(self, now: float) -> None:
        """Take the newest connection."""
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            if not self._admits(peer):
                connection.close()
                continue
            self._drop()
            connection.setblocking(False)
            self._take(connection)
