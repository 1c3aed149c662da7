"""What the agent uses of `socket`, as a guest can afford it.

Owns the class and `socketpair`, with as much as the agent uses. The standard module and `signal`
make members of enumerations out of hundreds of numbers: 12 ms of each start, and 0.4 MB. To a type
checker everything here is the standard module's.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Any, Tuple

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_UNIX",
    "AF_UNSPEC",
    "AF_VSOCK",
    "CMSG_SPACE",
    "MSG_CMSG_CLOEXEC",
    "MSG_DONTWAIT",
    "SCM_RIGHTS",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_ERROR",
    "SO_RCVBUF",
    "VMADDR_CID_ANY",
    "inet_ntop",
    "inet_pton",
    "socket",
    "socketpair",
]

if TYPE_CHECKING:
    from socket import (
        AF_INET,
        AF_INET6,
        AF_NETLINK,
        AF_UNIX,
        AF_UNSPEC,
        AF_VSOCK,
        CMSG_SPACE,
        MSG_CMSG_CLOEXEC,
        MSG_DONTWAIT,
        SCM_RIGHTS,
        SO_ERROR,
        SO_RCVBUF,
        SOCK_CLOEXEC,
        SOCK_DGRAM,
        SOCK_RAW,
        SOCK_SEQPACKET,
        SOCK_STREAM,
        SOL_SOCKET,
        VMADDR_CID_ANY,
        inet_ntop,
        inet_pton,
        socket,
        socketpair,
    )
else:
    import _socket

    # What this Python lacks is missed where it is used, as in the standard module.
    _known = vars(_socket)
    globals().update((name, _known[name]) for name in __all__ if name in _known)

    class socket(_socket.socket):  # noqa: N801 - its name in the library
        """A socket that closes at the end of a block, and gives such ones."""

        __slots__ = ("__weakref__",)

        def __enter__(self) -> socket:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def accept(self) -> Tuple[socket, Any]:
            """Return the next connection, which blocks, and its other end's address."""
            descriptor, address = self._accept()
            return socket(self.family, self.type, self.proto, descriptor), address

    def socketpair(
        family: int = AF_UNIX, kind: int = SOCK_STREAM, protocol: int = 0
    ) -> Tuple[socket, socket]:
        """Return two sockets that are connected with each other."""
        ends = _socket.socketpair(family, kind, protocol)
        first, second = (socket(family, kind, protocol, end.detach()) for end in ends)
        return first, second
