"""The lines on which a VMware hypervisor makes requests (TCLO), each answered before the next.

Owns the bytes either way: on a virtual socket requests come by themselves, through the backdoor
they are asked for. What a request means is `tclo`'s matter. Nothing here blocks.
"""

from __future__ import annotations

import errno

from agent import bare_socket as socket
from agent.hints import List, Optional, Protocol
from agent.tether.backdoor import Ports
from agent.tether.backdoor_channel import BackdoorChannel
from agent.tether.c_backdoor import TCLO_PROTOCOL
from agent.tether.c_rpci import HEARTBEAT_SECONDS
from agent.tether.datamap import Packets, encode_packet, encode_ping

POLL_SECONDS = 0.1
_READ_BYTES = 65536


class TcloLine(Protocol):
    """A line of requests. Methods raise OSError and ValueError: then there is nothing left of it.

    Whoever has got requests answers them all, in their order.
    """

    @property
    def descriptor(self) -> Optional[int]:
        """What is readable when requests have come; None where they have to be asked for."""

    @property
    def interval_seconds(self) -> Optional[float]:
        """How often `turn` is to be called, None for not yet."""

    def read(self) -> List[bytes]:
        """Return the requests that have come."""

    def turn(self) -> List[bytes]:
        """Say that we are there, and return the requests that come of it."""

    def answer(self, reply: bytes) -> None:
        """Answer a request, at the next `turn` at the latest."""

    def close(self) -> None:
        """Give it up."""


class SocketLine:
    """A connected socket of packets."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._packets = Packets()
        self._has_answered = False

    @property
    def descriptor(self) -> Optional[int]:
        """The socket."""
        return self._socket.fileno()

    @property
    def interval_seconds(self) -> Optional[float]:
        """A heartbeat's time, once it cannot be taken for an answer."""
        return HEARTBEAT_SECONDS if self._has_answered else None

    def read(self) -> List[bytes]:
        """Return the requests that have come."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the hypervisor has closed the line")
        return list(self._packets.take(data))

    def turn(self) -> List[bytes]:
        """Send a heartbeat."""
        self._send(encode_ping())
        return []

    def answer(self, reply: bytes) -> None:
        """Send the answer."""
        self._send(encode_packet(reply))
        self._has_answered = True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, packet: bytes) -> None:
        # A few bytes, one packet at a time: a hypervisor that reads has room for them.
        if self._socket.send(packet) != len(packet):
            raise ConnectionAbortedError(errno.ECONNABORTED, "the hypervisor takes no answers")


class BackdoorLine:
    """A channel of the backdoor, on which silence is answered by requests."""

    descriptor: Optional[int] = None
    interval_seconds: Optional[float] = POLL_SECONDS

    def __init__(self, ports: Ports) -> None:
        self._channel = BackdoorChannel(ports, TCLO_PROTOCOL)
        self._reply = b""

    def read(self) -> List[bytes]:
        """Return nothing: requests come by `turn`."""
        return []

    def turn(self) -> List[bytes]:
        """Send the last answer, or nothing, and return the request that there is."""
        reply, self._reply = self._reply, b""
        self._channel.send(reply)
        request = self._channel.receive()
        return [] if request is None else [request]

    def answer(self, reply: bytes) -> None:
        """Keep the answer for the next turn."""
        self._reply = reply

    def close(self) -> None:
        """Give the channel back."""
        self._channel.close()
