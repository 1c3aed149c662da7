"""The sending half of the reliable link. Owns sequence, repair and what is in flight.

Loss is found without a clock. Every transmission (a resend too) carries a fresh number, and an ACK
echoes the highest one that arrived. The line is FIFO, so whatever was sent under a smaller number
than the echo and has not arrived never will: it is resent at once, and nothing else ever is. The
timer sends a probe, never data; the echo that it brings back says what was lost. A timer that
fires too early is then harmless. The price: a number must follow the order on the line, so frames
are numbered only when they are taken for sending.
"""

from __future__ import annotations

from agent.bare_tools import deque
from agent.hints import Deque, Dict, NamedTuple, Optional, Tuple
from agent.wire.c_frame import (
    DATA_FRAMES,
    FLIGHT_FRAMES,
    INCARNATION_SHIFT,
    PIECE,
    SELECTIVE_SIZE,
    Flag,
    FrameType,
)
from agent.wire.events import Counters, ProtocolError
from agent.wire.frames import Frame
from agent.wire.pace import FrameSize, LineRate
from agent.wire.timer import ProbeTimer


class Message:
    """What the link carries: a sequenced frame without its numbers, and whose it is."""

    __slots__ = ("arrived", "flags", "kind", "owner", "payload", "size", "stream")

    def __init__(
        self,
        kind: int,
        flags: int,
        stream: int,
        payload: bytes,
        *,
        owner: Optional[Owner] = None,
        size: int = 0,
    ) -> None:
        self.kind = kind  # the frame's type
        self.flags = flags
        self.stream = stream
        self.payload = payload
        self.owner = owner  # who is told when it has been acknowledged
        self.size = size  # the owner's bytes in it: more than the payload's, when compressed
        self.arrived = False  # held by the peer, behind a gap


class Owner:
    """Who wants to know that a message has been acknowledged."""

    __slots__ = ()

    def acknowledge(self, message: Message) -> None:
        """Take note; messages come in the order in which they were sent."""
        raise NotImplementedError


# Number, sequence (-1: a probe, or a piece that is not its message's last), and when it was sent.
_Transmission = Tuple[int, int, float]


class _Round(NamedTuple):
    """A message that is being resent in pieces, and how far."""

    sequence: int
    message: Message
    step: int
    offset: int


class Sender:
    """Numbers what is sent, keeps it until it is acknowledged; outlives connections."""

    def __init__(self, max_payload: int, counters: Counters) -> None:
        self._counters = counters
        self.next_sequence = 0
        self.acknowledged = 0  # all before this sequence is
        self._unacknowledged: Dict[int, Message] = {}  # in order of sequence, without holes
        self._flight_bytes = 0
        self.lost: Deque[int] = deque()  # to be resent
        self.round: Optional[_Round] = None  # being resent
        self._last_transmission = 0
        # Not yet echoed; of each sequence one at most, for a resend follows the echo.
        self._transmissions: Deque[_Transmission] = deque()
        self._echoed = 0
        self.timer = ProbeTimer()
        self.frame_size = FrameSize(max_payload)
        self.rate = LineRate()

    def begin(self, incarnation: int, sequence: int) -> None:
        """Go on for a host process that is gone, at the sequence that the peer expects."""
        self.next_sequence = self.acknowledged = sequence
        self._last_transmission = incarnation << INCARNATION_SHIFT

    # --- sending ---------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return not self._unacknowledged

    def room(self, window: int) -> int:
        """Return how many bytes of data may be sent now, when the peer holds `window` bytes."""
        if self.next_sequence - self.acknowledged >= DATA_FRAMES:
            return 0
        return max(0, window - self._flight_bytes)

    def admits_priority(self) -> bool:
        """Whether control and credit may be sent now: they have frames that data may not use."""
        return self.next_sequence - self.acknowledged < FLIGHT_FRAMES

    def send(self, message: Message, now: float) -> Frame:
        """Number a new message; the frame goes on the line next."""
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        payload = message.payload
        self._flight_bytes += len(payload)
        self._unacknowledged[sequence] = message
        number = self._transmit(sequence, now)
        return Frame(message.kind, message.flags, message.stream, sequence, number, payload)

    def resend(self, now: float) -> Optional[Frame]:
        """Return a frame that was lost, newly numbered, if one was.

        One that is larger than the line seems to carry goes in pieces.
        """
        while True:
            if self.round is None and not self._next_lost():
                return None
            assert self.round is not None
            sequence, message, step, offset = self.round
            if message.arrived or sequence not in self._unacknowledged:
                self.round = None  # an earlier piece was the one that lacked
                continue
            end = offset + step
            last = end >= len(message.payload)
            self.round = None if last else self.round._replace(offset=end)
            transmission = self._transmit(sequence if last else -1, now)
            payload, flags = message.payload, message.flags
            if offset or not last:
                self._counters.pieces += 1
                payload = PIECE.pack(offset, len(payload)) + payload[offset:end]
                flags |= Flag.PIECE
            return Frame(message.kind, flags, message.stream, sequence, transmission, payload)

    def _next_lost(self) -> bool:
        while self.lost:
            sequence = self.lost.popleft()
            message = self._unacknowledged.get(sequence)
            if message is not None and not message.arrived:
                self._counters.resent += 1
                self.round = _Round(sequence, message, self.frame_size.payload, 0)
                return True
        return False

    def probe(self, now: float) -> Optional[Frame]:
        """Return a probe if the timer or `request_probe` asked for one and nothing else went."""
        if not self.timer.probe_due:
            return None
        self._counters.probes += 1
        return Frame(FrameType.PROBE, transmission=self._transmit(-1, now))

    def _transmit(self, sequence: int, now: float) -> int:
        number = self._last_transmission + 1
        self._last_transmission = number
        self._transmissions.append((number, sequence, now))
        self.timer.transmitted(now)
        return number

    # --- what the peer says ----------------------------------------------------------------------

    def receive_ack(self, frame: Frame, now: float) -> int:
        """Take an ACK; tell the owners of messages that are now acknowledged, return their number.

        Raises ProtocolError when it acknowledges what was never sent.
        """
        echo = frame.transmission
        arrived = int.from_bytes(frame.payload, "little")
        if (
            frame.number + arrived.bit_length() + bool(arrived) > self.next_sequence
            or echo > self._last_transmission
            or len(frame.payload) > SELECTIVE_SIZE
        ):
            raise ProtocolError("the peer acknowledges what was never sent")
        if echo <= self._echoed:
            self._counters.replayed += 1
            return 0
        self._echoed = echo
        before = self.acknowledged
        fresh = self._acknowledge(frame.number, now) if frame.number > before else 0
        while arrived:
            lowest = arrived & -arrived
            arrived ^= lowest
            message = self._unacknowledged.get(frame.number + lowest.bit_length())
            if message is not None and not message.arrived:
                message.arrived = True
                fresh += 1
        self._take_echo(echo, now)
        self.frame_size.arrived(fresh)
        return self.acknowledged - before

    def _acknowledge(self, expected: int, now: float) -> int:
        """Forget all messages before a sequence; return how many nobody knew to have arrived."""
        size = fresh = 0
        for sequence in range(self.acknowledged, expected):
            message = self._unacknowledged.pop(sequence)
            size += len(message.payload)
            fresh += not message.arrived
            if message.owner is not None:
                message.owner.acknowledge(message)
        self.acknowledged = max(self.acknowledged, expected)
        self._flight_bytes -= size
        self.rate.acknowledged(size, now)
        return fresh

    def _take_echo(self, echo: int, now: float) -> None:
        transmissions = self._transmissions
        latest, sent_at = 0, 0.0
        lost = 0
        while transmissions and transmissions[0][0] <= echo:
            latest, sequence, sent_at = transmissions.popleft()
            message = self._unacknowledged.get(sequence)
            if message is not None and not message.arrived:
                lost += 1
                self.lost.append(sequence)
        if lost:
            self._counters.lost += lost
            self.frame_size.lost(lost)
        if latest == echo:
            self.timer.measure(now - sent_at)
        self.timer.echoed(now, more=bool(transmissions))

    # --- connections -----------------------------------------------------------------------------

    def resume(self, peer_expects: int, now: float) -> None:
        """Go on over a new connection, at what the peer expects.

        That may be older than what it has acknowledged since (a greeting repeated after a false
        alarm): then it acknowledges nothing, and what is resent is dropped there.

        Raises ProtocolError when it expects what was never sent.
        """
        if peer_expects > self.next_sequence:
            raise ProtocolError("the peer expects a sequence that was never sent")
        self._acknowledge(peer_expects, now)
        self.lost = deque(self._unacknowledged)
        self.round = None
        self._transmissions.clear()
        self.timer.reset()
        self.rate = LineRate()

    def peer_restarted(self) -> None:
        """Note that the peer's new process holds nothing behind a gap."""
        for message in self._unacknowledged.values():
            message.arrived = False
