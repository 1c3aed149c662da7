"""A stream that this end reads. Owns its credit and offsets; keeps no byte of it."""

from __future__ import annotations

from agent.hints import List, NamedTuple, Optional
from agent.wire.c_frame import CREDIT, FIRST_CREDIT, GAP, MAX_COUNT, Flag, FrameType
from agent.wire.events import Data, Event, Finished, Gap, ProtocolError
from agent.wire.frames import Frame
from agent.wire.sender import Message
from agent.wire.squeeze import inflate


class Received(NamedTuple):
    """How far a stream has come: what a new process of this end has to know of it."""

    carried: int  # bytes that came
    dropped: int  # bytes that gaps stand for
    finished: bool


NOTHING = Received(0, 0, finished=False)


class Credits:
    """The credit of all streams that an end reads: what they may bring that nobody has consumed.

    Without a `limit` each has a window, at once. With one, each begins with little and has more as
    its reader consumes, a window at most, as long as all together have less than the limit; a
    stream that is consumed goes on however little is left.
    """

    __slots__ = ("first", "given", "limit", "window")

    def __init__(self, window: int, limit: Optional[int]) -> None:
        self.window = window
        self.first = window if limit is None else min(window, FIRST_CREDIT)
        self.limit = limit or 0
        self.given = 0

    def allow(self, wanted: int, own: int) -> int:
        """Return the credit of a stream that wants so much, and has `own` of what is given."""
        return max(self.first, min(wanted, self.limit - self.given + own))


class Incoming:
    """Check what comes against the credit given, and give more when it has been consumed."""

    __slots__ = (
        "_carried",
        "_consumed",
        "_credits",
        "_dropped",
        "_granted",
        "_holds",
        "_size",
        "_wanted",
        "finished",
        "stream",
    )

    def __init__(self, stream: int, received: Received, shared: Credits) -> None:
        self.stream = stream
        self._credits = shared
        self._carried, self._dropped, self.finished = received
        self._consumed = self._carried
        self._granted = self._carried  # as the peer was told
        self._wanted = self._size = shared.first
        self._holds = 0  # of the credit that is given

    @property
    def received(self) -> Received:
        """How far it has come."""
        return Received(self._carried, self._dropped, self.finished)

    @property
    def done(self) -> bool:
        """Whether it has ended and everything has been consumed."""
        return self.finished and self._consumed == self._carried

    def receive(self, frame: Frame, max_payload: int, events: List[Event]) -> None:
        """Take a DATA or GAP frame. Raises ProtocolError when it may not be sent."""
        if self.finished:
            raise ProtocolError("more on stream %d after its end" % self.stream)
        payload = frame.payload
        if frame.type == FrameType.GAP:
            self._receive_gap(payload, events)
            return
        if frame.flags & Flag.COMPRESSED:
            payload = inflate(payload, max_payload)
        if payload:
            carried = self._carried
            self._carried = carried + len(payload)
            # Not what was granted: a process before this one may have granted more than this.
            if self._carried > self._consumed + self._credits.window:
                raise ProtocolError("data on stream %d without credit" % self.stream)
            events.append(Data(self.stream, payload, carried + self._dropped))
        if frame.flags & Flag.FIN:
            self.finished = True
            self._settle()
            events.append(Finished(self.stream))

    def _receive_gap(self, payload: bytes, events: List[Event]) -> None:
        if len(payload) != GAP.size:
            raise ProtocolError("a gap record of %d bytes" % len(payload))
        offset, count = GAP.unpack(payload)
        if offset != self._carried + self._dropped or not 0 < count <= MAX_COUNT - offset:
            raise ProtocolError("a gap that is not where stream %d is" % self.stream)
        self._dropped += count
        events.append(Gap(self.stream, offset, count))

    def consume(self, count: int) -> bool:
        """Note bytes that the reader has disposed of; return whether to tell the writer.

        Raises ValueError on more bytes than have come.
        """
        consumed = self._consumed + count
        if count < 0 or consumed > self._carried:
            raise ValueError("stream %d has not brought that many bytes" % self.stream)
        self._consumed = consumed
        self._settle()
        # Half of it at a time: the writer never waits, and credit frames stay rare.
        return not self.finished and 2 * (consumed - self._granted) + self._size >= 0

    def grant(self) -> int:
        """Return all the credit there is, as the number of bytes that may be carried."""
        self._size = self._credits.allow(self._wanted, self._holds)
        self._wanted = min(2 * self._wanted, self._credits.window)
        self._granted = max(self._granted, self._consumed + self._size)
        self._settle()
        return self._granted

    def credit(self) -> Message:
        """Return the message that gives all the credit there is."""
        return Message(FrameType.CREDIT, 0, self.stream, CREDIT.pack(self.grant()))

    def release(self) -> None:
        """Leave the credit to others: nobody knows of this stream any more."""
        self._credits.given -= self._holds
        self._holds = 0

    def _settle(self) -> None:
        end = self._carried if self.finished else self._granted
        holds = max(0, end - self._consumed)
        self._credits.given += holds - self._holds
        self._holds = holds
