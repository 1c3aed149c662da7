"""Streams over the link: control, stdin, stdout, stderr. Owns credit, half close and priority.

Each data stream has its own credit, the bytes that its reader is willing to hold; a reader that
stalls stops its own stream and no other. Control has none: it is bounded in size and taken at
once. What waits to be sent leaves in the order control, credit, data.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Deque, Dict, List, Optional

from agent.wire.c_frame import (
    CONTROL,
    CONTROL_LIMIT,
    CREDIT,
    SENDS,
    Flag,
    FrameType,
    Role,
)
from agent.wire.events import Control, Data, Event, Finished, ProtocolError, Writable
from agent.wire.link import Message


class _Outgoing:
    """A data stream that this end writes. Counts are bytes since the stream's beginning."""

    def __init__(self, stream: int, buffer_bytes: int) -> None:
        self.stream = stream
        self._buffer_bytes = buffer_bytes
        self._waiting = bytearray()
        self._accepted = 0
        self._acknowledged = 0
        self._limit = 0
        self._starved = True  # there is no credit before the first greeting
        self._finish_due = False
        self.finished = False

    def writable(self) -> int:
        # The peer's credit alone would let it choose how much we buffer.
        buffered = self._accepted - self._acknowledged
        return max(0, min(self._limit - self._accepted, self._buffer_bytes - buffered))

    def accept(self, data: bytes) -> int:
        if self.finished:
            raise ValueError("stream %d was finished" % self.stream)
        count = min(len(data), self.writable())
        self._waiting += data if count == len(data) else memoryview(data)[:count]
        self._accepted += count
        self._starved = count < len(data) or not self.writable()
        return count

    def finish(self) -> None:
        if not self.finished:
            self.finished = self._finish_due = True

    def grant(self, limit: int) -> None:
        self._limit = max(self._limit, limit)

    def acknowledge(self, count: int) -> None:
        self._acknowledged += count

    def woken(self) -> bool:
        """Whether a writer that was turned away should try again; says so once."""
        if not self._starved or self.finished or not self.writable():
            return False
        self._starved = False
        return True

    @property
    def pending(self) -> bool:
        return bool(self._waiting) or self._finish_due

    def next_message(self, room: int, max_payload: int) -> Optional[Message]:
        """Return the next frame's message; None when it has to wait for room."""
        waiting = len(self._waiting)
        size = min(waiting, max_payload)
        if size > room:  # a full frame later rather than a sliver now
            return None
        payload = bytes(memoryview(self._waiting)[:size])
        del self._waiting[:size]
        fin = self._finish_due and size == waiting
        if fin:
            self._finish_due = False
        return Message(FrameType.DATA, self.stream, Flag.FIN if fin else 0, payload)


class _Incoming:
    """A data stream that this end reads. Counts are bytes since the stream's beginning."""

    def __init__(self, stream: int, window: int) -> None:
        self.stream = stream
        self._window = window
        self._received = 0
        self._consumed = 0
        self._granted = window  # the greeting grants it
        self._finished = False

    def receive(self, message: Message) -> List[Event]:
        self._received += len(message.payload)
        if self._finished or self._received > self._granted:
            raise ProtocolError("data on stream %d without credit" % self.stream)
        events: List[Event] = []
        if message.payload:
            events.append(Data(self.stream, message.payload))
        if message.flags & Flag.FIN:
            self._finished = True
            events.append(Finished(self.stream))
        return events

    def consume(self, count: int) -> None:
        if not 0 <= count <= self._received - self._consumed:
            raise ValueError("stream %d has not brought that many bytes" % self.stream)
        self._consumed += count

    def next_credit(self) -> Optional[Message]:
        # Half a window at a time: the writer never waits, and credit frames stay rare.
        limit = self._consumed + self._window
        if self._finished or limit - self._granted < (self._window + 1) // 2:
            return None
        self._granted = limit
        return Message(FrameType.CREDIT, self.stream, 0, CREDIT.pack(limit))


class Streams:
    """All streams of one end; messages for the link come out, its messages go in."""

    def __init__(self, role: Role, window: int) -> None:
        peer = Role.GUEST if role is Role.HOST else Role.HOST
        # Twice the window: one in flight, one ready when it has been acknowledged.
        self._outgoing = {stream: _Outgoing(stream, 2 * window) for stream in SENDS[role]}
        self._incoming = {stream: _Incoming(stream, window) for stream in SENDS[peer]}
        self._control_out: Deque[Message] = deque()
        self._control_in = bytearray()
        self._turn: Deque[int] = deque(SENDS[role])

    def writer(self, stream: int) -> _Outgoing:
        """Return the stream that this end writes, or raise ValueError."""
        if stream not in self._outgoing:
            raise ValueError("this end does not write stream %d" % stream)
        return self._outgoing[stream]

    def reader(self, stream: int) -> _Incoming:
        """Return the stream that this end reads, or raise ValueError."""
        if stream not in self._incoming:
            raise ValueError("this end does not read stream %d" % stream)
        return self._incoming[stream]

    @property
    def pending(self) -> bool:
        """Whether anything that was accepted has not been handed to the link."""
        return bool(self._control_out) or any(s.pending for s in self._outgoing.values())

    def grant_all(self, limit: int) -> None:
        """Take the credit that the peer's first greeting gives to every stream."""
        for outgoing in self._outgoing.values():
            outgoing.grant(limit)

    def send_control(self, message: Dict[str, object], max_payload: int) -> None:
        """Queue a control message, in fragments that any peer takes.

        Raises ValueError when it is longer than CONTROL_LIMIT as JSON.
        """
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
        if len(text) > CONTROL_LIMIT:
            raise ValueError("a control message of %d bytes" % len(text))
        for start in range(0, len(text), max_payload):
            end = start + max_payload
            more = Flag.MORE if end < len(text) else 0
            self._control_out.append(Message(FrameType.DATA, CONTROL, more, text[start:end]))

    def next_priority(self) -> Optional[Message]:
        """Return the control or credit message that is to be sent before any data."""
        if self._control_out:
            return self._control_out.popleft()
        for incoming in self._incoming.values():
            credit = incoming.next_credit()
            if credit is not None:
                return credit
        return None

    def next_data(self, room: int, max_payload: int) -> Optional[Message]:
        """Return a data message of at most `room` bytes, from each stream in its turn."""
        for stream in self._turn:
            outgoing = self._outgoing[stream]
            if outgoing.pending:
                message = outgoing.next_message(room, max_payload)
                if message is not None:
                    self._turn.remove(stream)
                    self._turn.append(stream)
                return message  # None: it waits for room, and nobody overtakes it
        return None

    def acknowledged(self, messages: List[Message]) -> None:
        """Forget messages that the peer has."""
        for message in messages:
            if message.type == FrameType.DATA and message.stream != CONTROL:
                self._outgoing[message.stream].acknowledge(len(message.payload))

    def woken(self) -> List[Event]:
        """Return a Writable for each stream that turned a writer away and takes bytes again."""
        return [Writable(stream) for stream, out in self._outgoing.items() if out.woken()]

    def receive(self, message: Message) -> List[Event]:
        """Take the peer's next message, in order.

        Raises ProtocolError when the peer breaks a rule.
        """
        if message.type == FrameType.CREDIT:
            if message.stream not in self._outgoing or len(message.payload) != CREDIT.size:
                raise ProtocolError("credit for stream %d" % message.stream)
            self._outgoing[message.stream].grant(CREDIT.unpack(message.payload)[0])
            return []
        if message.stream == CONTROL:
            return self._receive_control(message)
        if message.stream not in self._incoming:
            raise ProtocolError("data on stream %d, which is not the peer's" % message.stream)
        return self._incoming[message.stream].receive(message)

    def _receive_control(self, message: Message) -> List[Event]:
        if len(self._control_in) + len(message.payload) > CONTROL_LIMIT:
            raise ProtocolError("a control message of more than %d bytes" % CONTROL_LIMIT)
        self._control_in += message.payload
        if message.flags & Flag.MORE:
            return []
        text, self._control_in = bytes(self._control_in), bytearray()
        try:
            value = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ProtocolError("a control message that is not JSON") from error
        if not isinstance(value, dict):
            raise ProtocolError("a control message that is no JSON object")
        return [Control(value)]
