"""An endpoint of the protocol on an open line: bytes move when there are bytes or room.

Owns the meeting of `agent.wire` (no I/O) with a `Transport` (no protocol). Never blocks, and looks
at the line on every turn of the caller's loop: edges of an edge-triggered poll only wake it.
"""

from __future__ import annotations

import os
import time

from agent.hints import List, Optional, Tuple
from agent.tether.channel import Transport
from agent.tether.config import OutputRules
from agent.wire import Endpoint, Event, Role

# How much one turn reads and writes before other descriptors have theirs.
TURN_BYTES = 262144


def guest_line(transport: Transport, key: bytes, rules: OutputRules) -> Line:
    """Return the line of a guest that begins a session over `transport`."""
    endpoint = Endpoint(
        Role.GUEST,
        key,
        nonce=os.urandom(32),
        max_payload=transport.limits.max_payload_bytes,
        window=transport.limits.window_bytes,
        buffer_bytes=rules.ring_bytes,
        unread_bytes=rules.ring_bytes,
        away_seconds=rules.away_seconds,
        now=time.monotonic(),
    )
    return Line(transport, endpoint)


class Line:
    """The host, as the supervisor sees it: an endpoint that can be polled."""

    def __init__(self, transport: Transport, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._pending = memoryview(b"")
        self._connected = False
        self._more_to_read = False
        self._more_to_write = False
        self._early: List[Event] = []

    @property
    def has_more(self) -> bool:
        """Whether the last turn stopped for fairness and the next one should not wait."""
        return self._more_to_read or self._more_to_write

    @property
    def descriptors(self) -> Tuple[int, ...]:
        """What to wait on, by edges; another tuple when the line was made anew."""
        return self._transport.descriptors

    def close_old(self) -> None:
        """Close the descriptors of lines that were lost, when nobody waits on them any more."""
        self._transport.close_old()

    def succeed(self, endpoint: Endpoint) -> None:
        """Speak for another session from here on; what was half sent is garbage to its host."""
        self.endpoint = endpoint
        self._pending = memoryview(b"")

    def deadline(self) -> Optional[float]:
        """Return when a timer of the protocol or of the transport is due."""
        due = [self.endpoint.deadline(), self._transport.deadline()]
        return min((time for time in due if time is not None), default=None)

    def greet(self, now: float) -> None:
        """Answer a host that waits already: greetings travel while the guest still starts."""
        self._early = self.receive(now)
        self.send(now)

    def receive(self, now: float) -> List[Event]:
        """Read what has come and run the timers; return what that brought about.

        Raises agent.wire.ProtocolError when the peer breaks the protocol.
        """
        events, self._early = self._early, []
        self._transport.revive(now)
        budget = TURN_BYTES
        while budget > 0:
            data = self._transport.read()
            if data:
                self._connected = True
                budget -= len(data)
                events.extend(self.endpoint.receive(data, now))
            elif data is None:
                break
            else:
                self._lose()
                break
        self._more_to_read = budget <= 0
        events.extend(self.endpoint.tick(now))
        return events

    def send(self, now: float) -> None:
        """Write what is due, as far as the line takes it."""
        limit = self._transport.limits.write_bytes
        budget = TURN_BYTES
        more = True  # may be due
        while budget > 0:
            if not self._pending:
                due = self.endpoint.data_to_send(now, limit, whole=True) if more else b""
                if not due:
                    break
                self._pending = memoryview(due)
                more = len(due) >= limit
            count = self._transport.write(self._pending)
            if not count:
                break  # an edge says when there is room
            self._pending = self._pending[count:]
            budget -= count
        self._more_to_write = budget <= 0

    def _lose(self) -> None:
        """Forget what was half sent: whoever connects next begins with a greeting."""
        if self._connected:
            self._connected = False
            self._pending = memoryview(b"")
            self.endpoint.transport_lost()
