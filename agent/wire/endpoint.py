"""One end of the protocol, sans I/O: bytes in, events out; the clock and the nonce are arguments.

Composes parser, handshake, link and streams, and owns only how they meet: which key checks a
frame, what leaves first, what a cut resets. Everything but the handshake outlives a connection.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from agent.wire.c_frame import MAX_PAYLOAD, MIN_PAYLOAD, PROTOCOL_VERSION, FrameType, Role
from agent.wire.events import Console, Counters, Established, Event, ProtocolError
from agent.wire.frames import Frame, FrameParser, Sealer
from agent.wire.handshake import Greeting, GuestHandshake, Handshake, HostHandshake
from agent.wire.link import Link
from agent.wire.streams import Streams

_GREETINGS = frozenset((FrameType.HELLO, FrameType.HELLO_ACK, FrameType.REFUSE))


class Endpoint:
    """Drive one end of a session over any number of connections.

    `key` is 32 bytes, known to both ends; `nonce` at least 16 random ones, never used before with
    this key. `max_payload` bounds the frames that this end takes and makes, `window` the bytes in
    flight, the bytes held behind a gap, and each stream's unread bytes. `now` is in seconds, on any
    clock that does not step back.

    Call `receive` with what the line brings, `tick` at or after `deadline()`, and after either,
    while the line takes bytes, send what `data_to_send` returns.
    """

    def __init__(
        self,
        role: Role,
        key: bytes,
        *,
        nonce: bytes,
        max_payload: int = 32768,
        window: int = 131072,
        now: float,
    ) -> None:
        if not MIN_PAYLOAD <= max_payload <= min(window, MAX_PAYLOAD):
            raise ValueError("max_payload is out of bounds, or larger than the window")
        self.role = role
        self.counters = Counters()
        self.last_heard: Optional[float] = None  # when a frame of the peer's last proved genuine
        kind = HostHandshake if role is Role.HOST else GuestHandshake
        self._handshake: Handshake = kind(key, nonce, max_payload, window)
        self._handshake.restart(now, 0)
        self._parser = FrameParser(self._key_for, max_payload, self.counters)
        self._link = Link(window, self.counters)
        self._streams = Streams(role, window)
        self._max_payload = max_payload  # after the greeting: what both ends take
        self._window = window
        self._met = False
        self._tail = b""  # of a frame that was larger than what the caller asked for
        self._now = now
        self._broken: Optional[ProtocolError] = None

    @property
    def established(self) -> bool:
        """Whether the peer on this connection has proved that it holds the key."""
        return self._handshake.complete

    # --- the line --------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> List[Event]:
        """Take bytes from the line; return what they bring about.

        Raises ProtocolError when the peer, not the line, is at fault; the session is then over.
        Events that came before the fault are returned first, the error by the next call.
        """
        self._start(now)
        events: List[Event] = []
        try:
            for item in self._parser.feed(data):
                if isinstance(item, Frame):
                    self.last_heard = now
                    self._take(item, events)
                else:
                    events.append(Console(item))
        except ProtocolError as error:
            self._broken = error
            if not events:
                raise
        return events

    def tick(self, now: float) -> List[Event]:
        """Let the timers run. Raises ProtocolError as `receive` does."""
        self._start(now)
        if self.established:
            self._link.tick(now)
        return []

    def deadline(self) -> Optional[float]:
        """Return when `tick` and `data_to_send` are to be called though nothing was received."""
        if self._broken is not None:
            return self._now
        due = [self._handshake.deadline(), self._link.deadline() if self.established else None]
        return min((time for time in due if time is not None), default=None)

    def data_to_send(self, now: float, limit: int = 65536) -> bytes:
        """Return the next bytes for the line, at most `limit`; empty when nothing is due.

        What is returned is on its way: the caller sends all of it before it asks again.
        """
        self._now = now
        pieces = [self._tail]
        size = len(self._tail)
        while size < limit:
            sealed = self._next_sealed(now)
            if sealed is None:
                break
            self.counters.frames_sent += 1
            pieces.append(sealed)
            size += len(sealed)
        data = b"".join(pieces)
        self._tail = data[limit:]
        return data[:limit]

    def transport_lost(self) -> None:
        """Note that the line was cut: greet again on the next one, and go on where we were."""
        self._tail = b""
        self._parser.reset()
        self._handshake.restart(self._now, self._link.expected)

    def request_probe(self) -> None:
        """Make the peer answer, to learn from `last_heard` whether it is still there."""
        self._link.request_probe()

    # --- the streams -----------------------------------------------------------------------------

    def send(self, stream: int, data: bytes) -> int:
        """Accept up to `writable(stream)` bytes; return how many were taken.

        When not all were, a Writable event follows. Raises ValueError on a stream that this end
        does not write or has finished.
        """
        return self._streams.writer(stream).accept(data)

    def writable(self, stream: int) -> int:
        """Return how many bytes `send` would take now."""
        return self._streams.writer(stream).writable()

    def finish(self, stream: int) -> None:
        """Close this end's direction of a stream, after the bytes already accepted."""
        self._streams.writer(stream).finish()

    def consumed(self, stream: int, count: int) -> None:
        """Give back the credit of `count` bytes that the reader has disposed of."""
        self._streams.reader(stream).consume(count)

    def control(self, message: Dict[str, object]) -> None:
        """Send a JSON object ahead of all data, whatever the credit.

        Raises ValueError when it is longer than CONTROL_LIMIT bytes.
        """
        self._streams.send_control(message, MIN_PAYLOAD if not self._met else self._max_payload)

    def unacknowledged(self) -> bool:
        """Return whether the peer lacks anything that `send`, `finish` or `control` accepted."""
        return self._streams.pending or not self._link.idle

    # --- inside ----------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self._now = now
        if self._broken is not None:
            raise self._broken

    def _key_for(self, frame_type: int) -> Optional[Sealer]:
        if frame_type in _GREETINGS:
            return self._handshake.greeting_keys.theirs
        keys = self._handshake.session_keys
        return None if keys is None else keys.theirs

    def _take(self, frame: Frame, events: List[Event]) -> None:
        if frame.type in _GREETINGS:
            expected = self._link.expected
            greeting = self._handshake.receive(frame, self._now, expected, self.counters)
        else:
            greeting = self._handshake.confirm()
        if greeting is not None:
            self._establish(greeting, events)
        if frame.type in (FrameType.DATA, FrameType.CREDIT, FrameType.PROBE):
            for message in self._link.receive(frame):
                events.extend(self._streams.receive(message))
        elif frame.type == FrameType.ACK:
            self._streams.acknowledged(self._link.receive_ack(frame, self._now))
        events.extend(self._streams.woken())

    def _establish(self, greeting: Greeting, events: List[Event]) -> None:
        resumed = self._met
        if not resumed:
            self._met = True
            self._window = min(self._window, greeting.window)
            self._max_payload = min(self._max_payload, greeting.max_payload, self._window)
            self._streams.grant_all(greeting.window)
        self._streams.acknowledged(self._link.resume(greeting.received))
        events.append(
            Established(
                {
                    "version": PROTOCOL_VERSION,
                    "session": greeting.session.hex(),
                    "epoch": greeting.epoch,
                    "max_payload": greeting.max_payload,
                    "window": greeting.window,
                    "resumed": resumed,
                }
            )
        )

    def _next_sealed(self, now: float) -> Optional[bytes]:
        sealed = self._handshake.next_sealed(now)
        keys = self._handshake.session_keys
        if sealed is not None or keys is None or not self.established:
            return sealed
        frame = (
            self._link.acknowledgement()
            or self._link.resend(now)
            or self._fresh(now)
            or self._link.probe(now)
        )
        return None if frame is None else keys.ours.seal(frame)

    def _fresh(self, now: float) -> Optional[Frame]:
        message = self._streams.next_priority() if self._link.admits_priority() else None
        if message is None:
            room = self._link.room(self._window)
            message = self._streams.next_data(room, self._max_payload) if room else None
        return None if message is None else self._link.send(message, now)
