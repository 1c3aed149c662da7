"""Thousands of idle guests behind one concentrator, in one small client process. For the bench.

Owns the guests' ends of the protocol, on connections that are served already; they answer what they
are asked and say nothing else.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence

from agent.wire import Endpoint, Role
from tests.integration.vspc.many_vms import PATIENCE_SECONDS

_WINDOW = 4096
_DOUBLED, _SINGLE = b"\xff\xff", b"\xff"


class Guests:
    """One guest for each connection and key, in the same order."""

    def __init__(self, connections: Sequence[socket.socket], keys: Sequence[bytes]) -> None:
        self._epoll = select.epoll()
        self._guests: dict[int, tuple[socket.socket, Endpoint]] = {}
        self._halves: dict[int, bytes] = {}
        for connected, key in zip(connections, keys, strict=True):
            guest = Endpoint(
                Role.GUEST,
                key,
                nonce=os.urandom(16),
                max_payload=1024,
                window=_WINDOW,
                now=time.monotonic(),
            )
            connected.setblocking(False)
            self._guests[connected.fileno()] = connected, guest
            self._halves[connected.fileno()] = b""
            self._epoll.register(connected.fileno(), select.EPOLLIN)

    def meet_all(self) -> None:
        """Answer until all have a session."""
        missing = set(self._guests)
        end = time.monotonic() + PATIENCE_SECONDS
        while missing:
            assert time.monotonic() < end, f"{len(missing)} guests have no session"
            self.turn(0.1)
            missing = {one for one in missing if not self._guests[one][1].established}

    def idle(self, seconds: float) -> int:
        """Answer for so long; return how often one was asked something."""
        end = time.monotonic() + seconds
        count = 0
        while (left := end - time.monotonic()) > 0:
            count += self.turn(left)
        return count

    def turn(self, patience: float) -> int:
        """Answer what has come; return how many did."""
        ready = self._epoll.poll(patience)
        for descriptor, _events in ready:
            connected, guest = self._guests[descriptor]
            data = self._halves[descriptor] + connected.recv(65536)
            # An IAC at the end may be half of two.
            odd = (len(data) - len(data.rstrip(_SINGLE))) % 2
            self._halves[descriptor] = data[len(data) - odd :]
            now = time.monotonic()
            guest.receive(data[: len(data) - odd].replace(_DOUBLED, _SINGLE), now)
            guest.tick(now)
            while answer := guest.data_to_send(now):
                connected.sendall(answer.replace(_SINGLE, _DOUBLED))
        return len(ready)

    def close(self) -> None:
        """Let go of the epoll object; the connections are the caller's."""
        self._epoll.close()
