"""Calls of the guest to its VMware hypervisor (RPCI): over a virtual socket, or the backdoor.

Owns which way is taken, and for how long one that failed is not tried again. A call is a text such
as `info-get guestinfo.x`; the reply begins with "1 " or "0 ". A way is opened at the first call and
again after any fault; nothing waits longer than its time.
"""

from __future__ import annotations

import errno
import time

from agent import bare_socket as socket
from agent.hints import Callable, Dict, List, Optional, Protocol, Sequence
from agent.tether.backdoor import Ports
from agent.tether.backdoor_channel import BackdoorChannel
from agent.tether.c_backdoor import RPCI_PROTOCOL
from agent.tether.c_rpci import GUESTMSG_MAX_IN_SIZE, LENGTH, REPLY_BYTES
from agent.tether.datamap import decode_packet, encode_packet
from agent.tether.vmx_socket import CALL_SECONDS

# How long a way that failed is left alone where there is another one; doubled after each failure.
PAUSE_SECONDS = 2.0
PAUSE_SECONDS_MAX = 300.0
_READ_BYTES = 65536


class RpciError(Exception):
    """The hypervisor cannot be reached, or does not speak RPCI."""


class RefusalError(RpciError):
    """The hypervisor's answer is no; the text is why."""


class Way(Protocol):
    """One way to the hypervisor. Both of its methods raise OSError and ValueError."""

    def exchange(self, request: bytes) -> bytes:
        """Return the whole reply to a request. ConnectionError: another try may succeed."""

    def close(self) -> None:
        """Give up the connection; the next exchange makes another."""


class Rpci:
    """Calls, over the first of several ways that goes."""

    def __init__(self, ways: Sequence[Way], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ways = ways
        self._clock = clock
        self._pauses: Dict[int, float] = {}  # by place in `ways`: how long the next one is
        self._resume_at: Dict[int, float] = {}

    def call(self, request: bytes) -> bytes:
        """Return the reply behind its "1 ". Raises RefusalError on "0 ", RpciError."""
        if len(encode_packet(request)) > GUESTMSG_MAX_IN_SIZE:
            raise RpciError("a request of {} bytes is too long".format(len(request)))
        reply = self._exchange(request)
        if reply[:2] == b"1 " or reply == b"1":
            return reply[2:]
        raise RefusalError(reply[2:].decode("utf-8", "replace"))

    def close(self) -> None:
        """Close all ways; the next call opens one again."""
        for way in self._ways:
            way.close()

    def _exchange(self, request: bytes) -> bytes:
        failures: List[str] = []
        now = self._clock()
        # One that is left alone is still better than none; the sort keeps the order of the others.
        places = sorted(range(len(self._ways)), key=lambda at: now < self._resume_at.get(at, 0.0))
        for place in places:
            way = self._ways[place]
            try:
                reply = _exchange_twice(way, request)
            except (OSError, ValueError) as error:
                failures.append(str(error))
                way.close()
                pause = self._pauses.get(place, PAUSE_SECONDS)
                self._resume_at[place] = self._clock() + pause
                self._pauses[place] = min(PAUSE_SECONDS_MAX, 2 * pause)
                continue
            self._pauses.pop(place, None)
            self._resume_at.pop(place, None)
            return reply
        raise RpciError("the hypervisor does not answer: {}".format("; ".join(failures)))


class SocketWay:
    """A connection of packets. `connect` returns a connected socket, or raises OSError."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: Optional[socket.socket] = None

    def exchange(self, request: bytes) -> bytes:
        """Return the whole reply to a request, as `Way` says."""
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(CALL_SECONDS)
        self._socket.sendall(encode_packet(request))
        (length,) = LENGTH.unpack(self._receive(LENGTH.size))
        if length > REPLY_BYTES:
            raise ValueError("a reply of {} bytes".format(length))
        return decode_packet(self._receive(length))

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self, count: int) -> bytes:
        assert self._socket is not None
        pieces: List[bytes] = []
        while count:
            piece = self._socket.recv(min(count, _READ_BYTES))
            if not piece:
                raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


class BackdoorWay:
    """A channel of the backdoor. `find` returns its ports, None where there is no backdoor."""

    def __init__(self, find: Callable[[], Optional[Ports]]) -> None:
        self._find = find
        self._channel: Optional[BackdoorChannel] = None

    def exchange(self, request: bytes) -> bytes:
        """Return the whole reply to a request, as `Way` says."""
        if self._channel is None:
            ports = self._find()
            if ports is None:
                raise OSError(errno.ENODEV, "there is no backdoor")
            self._channel = BackdoorChannel(ports, RPCI_PROTOCOL)
        self._channel.send(request)
        reply = self._channel.receive()
        if reply is None:
            raise ValueError("no reply")
        return reply

    def close(self) -> None:
        """Give the channel back."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _exchange_twice(way: Way, request: bytes) -> bytes:
    # A connection that was idle may have been closed at the other end, as by a vMotion.
    try:
        return way.exchange(request)
    except ConnectionError:
        way.close()
        return way.exchange(request)
