"""One end of the protocol, sans I/O: bytes in, events out; the clock and the nonce are arguments.

Composes parser, handshake, link and streams, and owns only how they meet: which key checks a
frame, what leaves first, what a cut resets. Everything but the handshake outlives a connection.
"""

from __future__ import annotations

from agent.hints import Dict, List, Optional
from agent.wire.c_frame import (
    FEATURES,
    FRAME_OVERHEAD,
    MAX_PAYLOAD,
    MIN_PAYLOAD,
    Feature,
    Flag,
    FrameType,
    Role,
)
from agent.wire.events import Console, Counters, Established, Event, ProtocolError
from agent.wire.frames import Buffer, Frame, FrameParser, Sealer
from agent.wire.greeting import Greeting
from agent.wire.handshake import HostHandshake, Identity, Progress, make_handshake
from agent.wire.receiver import Receiver
from agent.wire.sender import Message, Sender
from agent.wire.state import SessionState
from agent.wire.streams import Streams

_GREETINGS = frozenset((FrameType.HELLO, FrameType.HELLO_ACK, FrameType.REFUSE))


class Endpoint:
    """Drive one end of a session over any number of connections.

    `key` is 32 bytes, known to both ends; `nonce` at least 16 random ones, never used before with
    this key. `max_payload` bounds the frames that this end takes and makes, `window` the bytes in
    flight, the bytes held behind a gap, and each stream's unread bytes; `buffer_bytes` what all
    streams that this end writes keep together, `unread_bytes` what all that it reads may have
    unread, beside the first 16 KiB of each (None: a window each). After `away_seconds` without an
    answer the peer counts as away. `state` is the sum of the journal of the host process before
    this one. `now` is in seconds, on any clock that does not step back.

    Call `receive` with what the line brings, `tick` at or after `deadline()`, and after either,
    while the line takes bytes, send what `data_to_send` returns. What events brought is
    acknowledged by the next `data_to_send` and not before: a host that wants to be succeeded by
    another process writes down the events and `journal()` in between.
    """

    def __init__(
        self,
        role: Role,
        key: bytes,
        *,
        nonce: bytes,
        max_payload: int = 32768,
        window: int = 131072,
        buffer_bytes: int = 1 << 20,
        unread_bytes: Optional[int] = None,
        away_seconds: float = 10.0,
        features: int = FEATURES,
        state: Optional[SessionState] = None,
        now: float,
    ) -> None:
        if not MIN_PAYLOAD <= max_payload <= min(window, MAX_PAYLOAD):
            raise ValueError("max_payload is out of bounds, or larger than the window")
        if state is not None:
            if role is not Role.HOST:
                raise ValueError("a guest goes on with no session")
            state.check(max_payload, window)
        self.role = role
        self.counters = Counters()
        self.last_heard: Optional[float] = None  # when a frame of the peer's last proved genuine
        identity = Identity(key, nonce, max_payload, window, features)
        self._handshake = make_handshake(role, identity, state)
        self._parser = FrameParser(self._key_for, max_payload, self.counters)
        self._sender = Sender(max_payload, self.counters)
        self._receiver = Receiver(window, max_payload, self.counters)
        if state is not None:
            self._receiver.expected = state.expected
        self._streams = Streams(
            role,
            window=window,
            max_payload=max_payload,
            buffer_bytes=buffer_bytes,
            unread_bytes=unread_bytes,
            counters=self.counters,
            state=state,
        )
        self._state = state
        self._own_payload, self._own_window = max_payload, window
        self._unread_bytes = unread_bytes
        self._max_payload = max_payload  # after the greeting: what both ends take
        self._window = window
        self._squeezes = False  # both ends know compression
        self._met = False
        self._incarnation = 1  # of the host process that we last met
        self._away_seconds = away_seconds
        self._silent_since: Optional[float] = now  # when the peer first failed to answer
        self._tail = b""  # of a frame that was larger than what the caller asked for
        self._now = now
        self._broken: Optional[ProtocolError] = None
        self._journalled: Dict[str, object] = {}
        self._handshake.restart(now, self._progress())
        self._streams.pool.away = True

    @property
    def established(self) -> bool:
        """Whether the peer on this connection has proved that it holds the key."""
        return self._handshake.complete

    @property
    def away(self) -> bool:
        """Whether the peer has not come yet, or not answered for `away_seconds`."""
        return self._streams.pool.away

    # --- the line --------------------------------------------------------------------------------

    def receive(self, data: Buffer, now: float) -> List[Event]:
        """Take bytes from the line; return what they bring about. No event holds on to `data`.

        Raises ProtocolError when the peer, not the line, is at fault; the session is then over.
        Events that came before the fault are returned first, the error by the next call.
        """
        self._start(now)
        try:
            for item in self._parser.feed(data):
                if isinstance(item, Frame):
                    self.last_heard = now
                    self._take(item)
                else:
                    self._streams.events.append(Console(item))
        except ProtocolError as error:
            self._broken = error
            if not self._streams.events:
                raise
        return self._take_events()

    def tick(self, now: float) -> List[Event]:
        """Let the timers run. Raises ProtocolError as `receive` does."""
        self._start(now)
        if self.established:
            self._sender.timer.tick(now)
        away_at = self._away_at()
        if away_at is not None and now >= away_at:
            self._streams.set_away(True)
        return self._take_events()

    def deadline(self) -> Optional[float]:
        """Return when `tick` and `data_to_send` are to be called though nothing was received."""
        if self._broken is not None or self._streams.events:
            return self._now
        probe_at = self._sender.timer.probe_at if self.established else None
        due = [self._handshake.deadline(), probe_at, self._away_at()]
        return min((time for time in due if time is not None), default=None)

    def data_to_send(self, now: float, limit: int = 65536, *, whole: bool = False) -> bytes:
        """Return the next bytes for the line, at most `limit`; empty when nothing is due.

        With `whole` frames are not cut, and the last one may reach beyond the limit: that saves
        copying them. What is returned is on its way: the caller sends all of it before it asks
        again.
        """
        self._now = now
        pieces = [self._tail]
        size = len(self._tail)
        handshake = self._handshake
        while size < limit:
            sealed = handshake.next_sealed(now)
            if sealed is None:
                break
            pieces.append(sealed)
            size += len(sealed)
            self.counters.frames_sent += 1
        keys = handshake.session_keys
        if keys is not None and handshake.complete:
            parts_of = keys.ours.parts
            while size < limit:
                frame = self._next_frame(now)
                if frame is None:
                    break
                pieces += parts_of(frame)
                size += FRAME_OVERHEAD + len(frame.payload)
                self.counters.frames_sent += 1
        self._sender.rate.asked(now, more=bool(self._streams.ready))
        data = b"".join(pieces)
        if whole or size <= limit:
            self._tail = b""
            return data
        self._tail = data[limit:]
        return data[:limit]

    def transport_lost(self) -> None:
        """Note that the line was cut: greet again on the next one, and go on where we were."""
        self._tail = b""
        self._parser.reset()
        self._handshake.restart(self._now, self._progress())
        if self._silent_since is None:
            self._silent_since = self._now

    def request_probe(self) -> None:
        """Make the peer answer, to learn from `last_heard` whether it is still there."""
        self._sender.timer.probe_due = True

    # --- the streams -----------------------------------------------------------------------------

    def open(self, process: int) -> None:
        """As the host, create the streams of another process; a control message may say of which.

        A number is free again when Closed or Unopened has named it. Raises ValueError when it is
        not free, out of bounds, or one too many.
        """
        if self.role is not Role.HOST:
            raise ValueError("only the host opens streams")
        self._streams.open(process)

    def send(self, stream: int, data: bytes) -> int:
        """Accept up to `writable(stream)` bytes; return how many were taken.

        When not all were, a Writable event follows. Raises ValueError on a stream that this end
        does not write or has finished.
        """
        return self._streams.send(stream, data)

    def writable(self, stream: int) -> int:
        """Return how many bytes `send` would take now."""
        return self._streams.writable(stream)

    def finish(self, stream: int) -> None:
        """Close this end's direction of a stream, after the bytes already accepted."""
        self._streams.finish(stream)

    def has_left(self, stream: int) -> bool:
        """Return whether a finished stream of ours has been sent to its end, at least once.

        A control message that follows arrives after that end. True once the stream is forgotten.
        """
        return self._streams.has_left(stream)

    def has_sent(self, stream: int) -> bool:
        """Return whether all that a stream of ours has accepted has been sent, at least once.

        A control message that follows arrives after it.
        """
        return self._streams.has_sent(stream)

    def keep_newest(self, stream: int) -> None:
        """Make a stream that we write a ring: while the peer is away it takes everything.

        What exceeds `buffer_bytes` is dropped, the oldest bytes of the fullest ring first; the
        peer gets a Gap in their place.
        """
        self._streams.keep_newest(stream)

    def succeed(self, key: bytes, *, nonce: bytes, now: float) -> Endpoint:
        """As the guest, return the endpoint of a new session, under another key.

        The main process's streams go on: what no frame has carried yet is sent, after a Gap that
        stands for all that was written before. Other processes, credit and control messages end
        with this session, whose endpoint is not to be used for the line any more.
        """
        if self.role is not Role.GUEST:
            raise ValueError("a host begins a session of its own")
        heir = Endpoint(
            self.role,
            key,
            nonce=nonce,
            max_payload=self._own_payload,
            window=self._own_window,
            buffer_bytes=self._streams.pool.limit,
            unread_bytes=self._unread_bytes,
            away_seconds=self._away_seconds,
            features=self._handshake.features,
            now=now,
        )
        heir._streams.inherit(self._streams)
        return heir

    def consumed(self, stream: int, count: int) -> None:
        """Give back the credit of `count` bytes that the reader has disposed of."""
        self._streams.consumed(stream, count)

    def control(self, message: Dict[str, object]) -> None:
        """Send a JSON object ahead of all data, whatever the credit.

        Raises ValueError when it is longer than CONTROL_LIMIT bytes, ControlFullError when the
        peer has taken none for so long that CONTROL_QUEUE bytes wait.
        """
        self._streams.control.send(message, MIN_PAYLOAD if not self._met else self._max_payload)

    def unacknowledged(self) -> bool:
        """Return whether the peer lacks anything that `send`, `finish` or `control` accepted."""
        return self._streams.pending or not self._sender.idle

    def journal(self) -> Optional[Dict[str, object]]:
        """As the host, return what has changed for a process that may come after; None: nothing.

        A JSON object for SessionState.apply. Written down after the events and before the next
        `data_to_send`, it lets another process go on with the session. The first one also must be
        written before anything is sent. Raises ValueError at a guest.
        """
        if not isinstance(self._handshake, HostHandshake):
            raise ValueError("a guest keeps no journal")
        record = self._streams.journal()
        kept: Dict[str, object] = {
            "session": self._handshake.session.hex(),
            "incarnation": self._handshake.incarnation,
            "max_payload": self._own_payload,
            "window": self._own_window,
            "joined": self._handshake.joined,
            "expected": self._receiver.expected,
        }
        if "session" not in self._journalled:
            record.update(kept)
        else:
            record.update({k: v for k, v in kept.items() if self._journalled[k] != v})
        self._journalled = kept
        return record or None

    # --- inside ----------------------------------------------------------------------------------

    def _away_at(self) -> Optional[float]:
        """Return when the peer will count as away, if it does not answer and is not yet."""
        if self.away or self._silent_since is None:
            return None
        return self._silent_since + self._away_seconds

    def _start(self, now: float) -> None:
        self._now = now
        if self._broken is not None:
            raise self._broken

    def _take_events(self) -> List[Event]:
        events = self._streams.events
        self._streams.events = []
        return events

    def _progress(self) -> Progress:
        sender = self._sender
        return Progress(self._receiver.expected, sender.acknowledged, sender.next_sequence)

    def _key_for(self, frame_type: int) -> Optional[Sealer]:
        if frame_type in _GREETINGS:
            return self._handshake.greeting_keys.theirs
        keys = self._handshake.session_keys
        return None if keys is None else keys.theirs

    def _take(self, frame: Frame) -> None:
        handshake = self._handshake
        if frame.type in _GREETINGS:
            greeting = handshake.receive(frame, self._now, self._progress(), self.counters)
        else:
            greeting = handshake.confirm()
            self._silent_since = None
        if greeting is not None:
            self._establish(greeting)
        if frame.type >= FrameType.DATA or frame.type == FrameType.PROBE:
            for ready in self._receiver.receive(frame):
                self._streams.receive(ready)
        elif frame.type == FrameType.ACK and self._sender.receive_ack(frame, self._now):
            self._streams.acknowledged()

    def _establish(self, greeting: Greeting) -> None:
        resumed = self._met or self._state is not None
        self._met = True
        self._silent_since = None
        self._streams.set_away(False)
        self._window = min(self._own_window, greeting.window)
        self._max_payload = min(self._own_payload, greeting.max_payload)
        self._sender.frame_size.limit(self._max_payload)
        self._squeezes = bool(greeting.features & Feature.COMPRESSION)
        self._receiver.resume()
        if self._state is not None:
            self._sender.begin(self._state.incarnation + 1, greeting.received)
            self._state = None
        restarted = self.role is Role.GUEST and greeting.incarnation != self._incarnation
        self._incarnation = greeting.incarnation
        if restarted:
            self._sender.peer_restarted()
            self._receiver.peer_restarted()
            self._streams.peer_restarted(greeting.incarnation)
        self._sender.resume(greeting.received, self._now)
        self._streams.acknowledged()
        self._streams.events.append(
            Established(
                {
                    "version": greeting.version,
                    "features": greeting.features,
                    "session": greeting.session.hex(),
                    "incarnation": greeting.incarnation,
                    "epoch": greeting.epoch,
                    "max_payload": greeting.max_payload,
                    "window": greeting.window,
                    "resumed": resumed,
                }
            )
        )

    def _next_frame(self, now: float) -> Optional[Frame]:
        receiver, sender = self._receiver, self._sender
        if receiver.ack_due:
            return receiver.acknowledgement()
        frame = sender.resend(now) if sender.lost or sender.round else None
        if frame is None:
            streams = self._streams
            if streams.has_priority and sender.admits_priority():
                message = streams.next_priority()
            else:
                message = self._fresh_data() if streams.ready else None
            frame = sender.probe(now) if message is None else sender.send(message, now)
        if frame is not None and self._silent_since is None:
            self._silent_since = now
        return frame

    def _fresh_data(self) -> Optional[Message]:
        sender = self._sender
        room = sender.room(self._window)
        if not room:
            return None
        squeeze = self._squeezes and sender.rate.slow
        message = self._streams.next_data(room, sender.frame_size.payload, squeeze=squeeze)
        if message is not None and message.flags & Flag.COMPRESSED:
            self.counters.compressed += 1
        return message
