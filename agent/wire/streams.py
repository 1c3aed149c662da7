"""Streams over the link: control, and stdin, stdout and stderr of each process.

Owns which streams there are, when they come and go, and what is sent next: control, then credit,
then data, the data streams in turns. Each data stream has its own credit, the bytes that its
reader is willing to hold; a reader that stalls stops its own stream and no other.
"""

from __future__ import annotations

from agent.hints import Dict, List, Optional, Set
from agent.wire.c_frame import (
    CONTROL,
    CREDIT,
    GAP,
    LAST_PROCESS,
    MAX_PROCESSES,
    POSITION,
    SENDS,
    STREAMS_PER_PROCESS,
    Flag,
    FrameType,
    Role,
)
from agent.wire.control import ControlStream
from agent.wire.events import (
    Closed,
    Counters,
    Event,
    Opened,
    Position,
    ProtocolError,
    Unopened,
    Writable,
)
from agent.wire.frames import Frame
from agent.wire.incoming import NOTHING, Credits, Incoming
from agent.wire.outgoing import Outgoing, Pool
from agent.wire.sender import Message
from agent.wire.state import Changes, SessionState
from agent.wire.stream_ids import process_of, stream_of


class Streams:
    """All streams of one end; messages for the link come out, its frames go in.

    `events` gathers what happens until the caller takes it.
    """

    def __init__(
        self,
        role: Role,
        *,
        window: int,
        max_payload: int,
        buffer_bytes: int,
        unread_bytes: Optional[int],
        counters: Counters,
        state: Optional[SessionState],
    ) -> None:
        self.events: List[Event] = []
        self._counters = counters
        self._role = role
        self._ours = SENDS[role]
        self.pool = Pool(buffer_bytes, (1 + MAX_PROCESSES) * len(self._ours))
        self._theirs = SENDS[Role.GUEST if role is Role.HOST else Role.HOST]
        self._credits = Credits(window, unread_bytes)
        self._window = window
        self._max_payload = max_payload  # that we take
        self.control = ControlStream(state.control if state else b"")
        self._outgoing: Dict[int, Outgoing] = {}
        self._incoming: Dict[int, Incoming] = {}
        # Those that have data to send that the peer's credit allows, in the order of their turns.
        self.ready: Dict[int, Outgoing] = {}
        self._short: Dict[int, Outgoing] = {}  # whose writers were turned away
        self._credit_due: Dict[int, Incoming] = {}
        self._ending: Set[int] = set()  # processes of which a stream has ended
        self._closed: Set[int] = set()  # processes that the guest has forgotten
        self._unplaced = state is not None
        self._incarnation = state.incarnation + 1 if state else 1
        self._changes = Changes(bytes(self.control.partial))
        for process in sorted(state.processes) if state else (0,):
            self._add(process, state)

    # --- processes -------------------------------------------------------------------------------

    def _add(self, process: int, state: Optional[SessionState] = None) -> None:
        for which in self._ours:
            stream = stream_of(process, which)
            # Twice the window: one in flight, one ready when it has been acknowledged.
            outgoing = Outgoing(stream, 2 * self._window, self.pool, placed=state is None)
            self._outgoing[stream] = self._short[stream] = outgoing
        for which in self._theirs:
            stream = stream_of(process, which)
            received = state.streams.get(stream, NOTHING) if state else NOTHING
            incoming = Incoming(stream, received, self._credits)
            self._incoming[stream] = incoming
            if not incoming.finished:
                self._credit_due[stream] = incoming

    def open(self, process: int) -> None:
        """Create the streams of a process here and, by a message, at the guest.

        Raises ValueError when the number is in use or too many processes are open.
        """
        if process == 0 or self._knows(process):
            raise ValueError("process %d is open" % process)
        if not 0 < process <= LAST_PROCESS:
            raise ValueError("there is no process number %d" % process)
        if self._count() >= MAX_PROCESSES:
            raise ValueError("%d processes are open" % MAX_PROCESSES)
        self._add(process)
        self._changes.opened(process)
        self.control.queue(Message(FrameType.OPEN, 0, stream_of(process, CONTROL), b""))

    def _knows(self, process: int) -> bool:
        return stream_of(process, self._ours[0]) in self._outgoing

    def _count(self) -> int:
        return len(self._outgoing) // len(self._ours) - 1

    def _forget(self, process: int) -> None:
        first = stream_of(process, CONTROL)
        for stream in range(first, first + STREAMS_PER_PROCESS):
            self._outgoing.pop(stream, None)
            if stream in self._incoming:
                self._incoming.pop(stream).release()
            self._short.pop(stream, None)
            self.ready.pop(stream, None)
            self._credit_due.pop(stream, None)
        self._ending.discard(process)
        self._closed.discard(process)
        self._changes.forgotten(process)

    def _forget_ended(self) -> None:
        for process in sorted(self._ending):
            if self._is_done(process):
                if self._role is Role.GUEST:
                    # The last word on it: what the host hears of this number later is new.
                    base = stream_of(process, CONTROL)
                    self.control.queue(Message(FrameType.CLOSED, 0, base, b""))
                self._forget(process)
                self.events.append(Closed(process))

    def _is_done(self, process: int) -> bool:
        if not all(self._incoming[stream_of(process, which)].done for which in self._theirs):
            return False
        if self._role is Role.HOST:
            return process in self._closed
        return all(self._outgoing[stream_of(process, which)].done for which in self._ours)

    def _note_end(self, stream: int) -> None:
        process = process_of(stream)
        if process:  # the main process's streams are there for good
            self._ending.add(process)

    # --- the caller's side -----------------------------------------------------------------------

    def _writer(self, stream: int) -> Outgoing:
        outgoing = self._outgoing.get(stream)
        if outgoing is None:
            raise ValueError("this end does not write stream %d" % stream)
        return outgoing

    def send(self, stream: int, data: bytes) -> int:
        """Accept bytes; return how many."""
        outgoing = self._writer(stream)
        room = outgoing.writable()
        count = outgoing.accept(data, room)
        if room <= len(data):
            self._short[stream] = outgoing
        if self.pool.away and self.pool.used > self.pool.limit:
            self._drop_oldest()
        self._note_ready(outgoing)
        return count

    def writable(self, stream: int) -> int:
        """Return how many bytes `send` takes."""
        return self._writer(stream).writable()

    def finish(self, stream: int) -> None:
        """End a stream that this end writes."""
        outgoing = self._writer(stream)
        outgoing.finish()
        self._note_end(stream)
        self._note_ready(outgoing)

    def has_left(self, stream: int) -> bool:
        """Return whether a finished stream has been handed to the link, its end included."""
        outgoing = self._outgoing.get(stream)
        return outgoing is None or (outgoing.finished and not outgoing.pending)

    def has_sent(self, stream: int) -> bool:
        """Return whether all that was accepted on a stream has been handed to the link."""
        return not self._writer(stream).pending

    def keep_newest(self, stream: int) -> None:
        """Drop a stream's oldest bytes rather than stop its writer, while the peer is away."""
        self._writer(stream).ring = True

    def inherit(self, old: Streams) -> None:
        """Go on, in a new session, with what the main process of another has written."""
        for which in self._ours:
            stream = stream_of(0, which)
            outgoing = self._writer(stream)
            outgoing.inherit(old._writer(stream))
            self._note_ready(outgoing)

    def consumed(self, stream: int, count: int) -> None:
        """Give credit back."""
        incoming = self._incoming.get(stream)
        if incoming is None:
            raise ValueError("this end does not read stream %d" % stream)
        if incoming.consume(count):
            self._credit_due[stream] = incoming
        elif self._ending and incoming.done:
            self._forget_ended()

    @property
    def pending(self) -> bool:
        """Whether anything that was accepted has not been handed to the link."""
        return self.control.pending or any(s.pending for s in self._outgoing.values())

    def set_away(self, away: bool) -> None:
        """Learn whether the peer is there to take what rings keep."""
        self.pool.away = away
        if away:
            self.wake()

    def _drop_oldest(self) -> None:
        rings = [outgoing for outgoing in self._outgoing.values() if outgoing.ring]
        while self.pool.used > self.pool.limit:
            largest = max(rings, key=lambda ring: ring.waiting, default=None)
            if largest is None or not largest.waiting:
                return
            largest.drop(min(largest.waiting, self.pool.used - self.pool.limit))

    # --- what is sent ----------------------------------------------------------------------------

    def _note_ready(self, outgoing: Outgoing) -> None:
        if outgoing.stream not in self.ready and outgoing.ready:
            self.ready[outgoing.stream] = outgoing

    @property
    def has_priority(self) -> bool:
        """Whether there is something to send that no data may delay."""
        return bool(self._credit_due or self.control.waiting)

    def next_priority(self) -> Optional[Message]:
        """Return the control or credit message that is to be sent before any data."""
        message = self.control.next_message()
        if message is None and self._credit_due:
            stream = next(iter(self._credit_due))
            message = self._credit_due.pop(stream).credit()
        return message

    def next_data(self, room: int, payload: int, *, squeeze: bool) -> Optional[Message]:
        """Return a data message of at most `room` bytes, from each stream in its turn.

        To be called when some are ready. None: the one whose turn it is waits for room, and nobody
        overtakes it.
        """
        stream, outgoing = next(iter(self.ready.items()))
        message = outgoing.next_message(room, payload, squeeze=squeeze)
        if message is None:
            return None
        if len(self.ready) > 1 or not outgoing.ready:
            del self.ready[stream]
            self._note_ready(outgoing)
        if message.kind == FrameType.GAP:
            self._count_gap(message.payload)
        return message

    def _count_gap(self, payload: bytes) -> None:
        self._counters.gaps += 1
        self._counters.gap_bytes += GAP.unpack(payload)[1]

    def acknowledged(self) -> None:
        """Note that messages were acknowledged; their streams know it already."""
        if self._ending:
            self._forget_ended()
        if self._short:
            self.wake()

    def wake(self) -> None:
        """Report each stream that turned a writer away and takes bytes again."""
        for stream in [s for s, outgoing in self._short.items() if outgoing.writable()]:
            del self._short[stream]
            self.events.append(Writable(stream))

    # --- what is received ------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        """Take the peer's next sequenced frame, in order.

        Raises ProtocolError when the peer breaks a rule.
        """
        kind, stream = frame.type, frame.stream
        if kind == FrameType.DATA and stream == CONTROL:
            control = self.control.receive(frame.flags, frame.payload)
            if control is not None:
                self.events.append(control)
        elif kind in (FrameType.DATA, FrameType.GAP):
            incoming = self._incoming.get(stream)
            if incoming is None:
                raise ProtocolError("data on stream %d, which is not the peer's" % stream)
            incoming.receive(frame, self._max_payload, self.events)
            if kind == FrameType.GAP:
                self._count_gap(frame.payload)
            self._changes.received(stream)
            if incoming.finished:
                self._credit_due.pop(stream, None)
                self._note_end(stream)
                self._forget_ended()
        elif kind == FrameType.CREDIT:
            self._receive_credit(stream, frame.payload)
        elif kind == FrameType.OPEN:
            self._receive_open(stream)
        elif kind == FrameType.CLOSED:
            self._receive_closed(stream)
        else:
            self._receive_position(frame)

    def _receive_credit(self, stream: int, payload: bytes) -> None:
        outgoing = self._outgoing.get(stream)
        if len(payload) != CREDIT.size or (outgoing is None and not self._may_be_late(stream)):
            raise ProtocolError("credit for stream %d" % stream)
        if outgoing is not None:
            outgoing.grant(CREDIT.unpack(payload)[0])
            self._note_ready(outgoing)
            self.wake()

    def _may_be_late(self, stream: int) -> bool:
        """Whether credit may come for a stream that has been forgotten: its end overtook it."""
        return process_of(stream) != 0 and stream % STREAMS_PER_PROCESS in self._ours

    def _receive_open(self, stream: int) -> None:
        process = process_of(stream)
        if self._role is Role.HOST or stream % STREAMS_PER_PROCESS or not process:
            raise ProtocolError("stream %d was opened" % stream)
        if self._knows(process):
            raise ProtocolError("process %d was opened while it is open" % process)
        if self._count() >= MAX_PROCESSES:
            raise ProtocolError("more than %d processes" % MAX_PROCESSES)
        self._add(process)
        self.events.append(Opened(process))

    def _receive_closed(self, stream: int) -> None:
        process = process_of(stream)
        if (
            self._role is Role.GUEST
            or stream % STREAMS_PER_PROCESS
            or not process
            or not self._knows(process)
            or not all(self._incoming[stream_of(process, which)].finished for which in self._theirs)
        ):
            raise ProtocolError("stream %d was closed" % stream)
        self._closed.add(process)
        self._ending.add(process)
        self._forget_ended()

    # --- a host process that ended, and the next -------------------------------------------------

    def peer_restarted(self, incarnation: int) -> None:
        """Tell the peer's new process how far each stream has come, control last."""
        self.control.peer_restarted()
        for stream, incoming in self._incoming.items():
            self.control.queue(
                Message(
                    FrameType.POSITION,
                    Flag.FIN if incoming.finished else 0,
                    stream,
                    POSITION.pack(incarnation, incoming.received.carried, incoming.grant()),
                )
            )
        position = POSITION.pack(incarnation, self.control.received, 0)
        self.control.queue(Message(FrameType.POSITION, 0, CONTROL, position))

    def _receive_position(self, frame: Frame) -> None:
        if self._role is Role.GUEST or len(frame.payload) != POSITION.size:
            raise ProtocolError("a position for stream %d" % frame.stream)
        incarnation, received, limit = POSITION.unpack(frame.payload)
        if incarnation != self._incarnation or not self._unplaced:
            return  # it was for a process before this one
        finished = bool(frame.flags & Flag.FIN)
        if frame.stream == CONTROL:
            self._unplaced = False
            self.events.append(Position(CONTROL, received))
            self._settle()
            return
        outgoing = self._outgoing.get(frame.stream)
        if outgoing is None:
            raise ProtocolError("a position for stream %d" % frame.stream)
        if outgoing.place(received, limit, finished=finished):
            self.events.append(Position(frame.stream, received, finished))
            self._note_ready(outgoing)
            if outgoing.finished:
                self._note_end(frame.stream)
                self._forget_ended()

    def _settle(self) -> None:
        """Forget the processes of which the guest did not speak: it never heard of them."""
        for process in sorted({process_of(stream) for stream in self._outgoing}):
            if not self._outgoing[stream_of(process, self._ours[0])].placed:
                if not process:
                    raise ProtocolError("no position for the main process")
                self._forget(process)
                self.events.append(Unopened(process))

    def journal(self) -> Dict[str, object]:
        """Return what changed since the last call, for SessionState."""
        partial = bytes(self.control.partial)
        return self._changes.record(lambda stream: self._incoming[stream].received, partial)
