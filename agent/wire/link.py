"""A reliable link over a line that loses bytes but keeps their order. Owns sequence and repair.

Loss is found without a clock. Every transmission (a resend too) carries a fresh number, and an ACK
echoes the highest one that arrived. The line is FIFO, so whatever was sent under a smaller number
than the echo and has not arrived never will: it is resent at once, and nothing else ever is. The
timer sends a probe, never data; the echo that it brings back says what was lost. A timer that
fires too early is then harmless. The price: a number must follow the order on the line, so frames
are numbered only when they are taken for sending.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional

from agent.wire.c_frame import (
    DATA_FRAMES,
    FIRST_PROBE_SECONDS,
    FLIGHT_FRAMES,
    MAX_PROBE_SECONDS,
    MIN_PROBE_SECONDS,
    SELECTIVE_SIZE,
    FrameType,
)
from agent.wire.events import Counters, ProtocolError
from agent.wire.frames import Frame


class Message(NamedTuple):
    """What the link carries: a sequenced frame without its numbers."""

    type: int
    stream: int
    flags: int
    payload: bytes


class _Sent:
    """A message that is not yet acknowledged in sequence."""

    __slots__ = ("arrived", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.arrived = False  # held by the peer, behind a gap


class _Transmission(NamedTuple):
    number: int
    sequence: int  # -1: a probe
    sent_at: float


class Link:
    """Both directions of one end; its state outlives connections."""

    def __init__(self, window: int, counters: Counters) -> None:
        self.window = window  # bytes of data in flight, and bytes held behind a gap
        self._counters = counters
        # sending
        self._next_sequence = 0
        self._acknowledged = 0
        self._unacknowledged: Dict[int, _Sent] = {}  # in order of sequence, without holes
        self._flight_bytes = 0
        self._lost: Deque[int] = deque()
        self._last_transmission = 0
        # Not yet echoed; of each sequence one at most, for a resend follows the echo.
        self._transmissions: Deque[_Transmission] = deque()
        self._echoed = 0
        # timer
        self._round_trip: Optional[float] = None
        self._variation = 0.0
        self._back_off = 1
        self._probe_at: Optional[float] = None
        self._probe_due = False
        # receiving
        self._expected = 0
        self._held: Dict[int, Message] = {}
        self._held_bytes = 0
        self._highest_seen = 0
        self._ack_due = False

    # --- sending ---------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return not self._unacknowledged

    def room(self, window: int) -> int:
        """Return how many bytes of data may be sent now, when the peer holds `window` bytes."""
        if self._next_sequence - self._acknowledged >= DATA_FRAMES:
            return 0
        return max(0, window - self._flight_bytes)

    def admits_priority(self) -> bool:
        """Whether control and credit may be sent now: they have frames that data may not use."""
        return self._next_sequence - self._acknowledged < FLIGHT_FRAMES

    def send(self, message: Message, now: float) -> Frame:
        """Number a new message; the frame goes on the line next."""
        sequence = self._next_sequence
        self._next_sequence += 1
        self._flight_bytes += len(message.payload)
        self._unacknowledged[sequence] = _Sent(message)
        return _sequenced(message, sequence, self._transmit(sequence, now))

    def resend(self, now: float) -> Optional[Frame]:
        """Return a frame that was lost, newly numbered, if one was."""
        while self._lost:
            sequence = self._lost.popleft()
            sent = self._unacknowledged.get(sequence)
            if sent is not None and not sent.arrived:
                self._counters.resent += 1
                return _sequenced(sent.message, sequence, self._transmit(sequence, now))
        return None

    def probe(self, now: float) -> Optional[Frame]:
        """Return a probe if the timer or `request_probe` asked for one and nothing else went."""
        if not self._probe_due:
            return None
        self._counters.probes += 1
        return Frame(FrameType.PROBE, transmission=self._transmit(-1, now))

    def request_probe(self) -> None:
        """Have the peer answer soon, though there may be nothing to send."""
        self._probe_due = True

    def acknowledgement(self) -> Optional[Frame]:
        """Return an ACK of all that arrived, if something arrived since the last."""
        if not self._ack_due:
            return None
        self._ack_due = False
        bits = 0
        for sequence in self._held:
            bits |= 1 << (sequence - self._expected - 1)
        return Frame(
            FrameType.ACK,
            number=self._expected,
            transmission=self._highest_seen,
            payload=bits.to_bytes((bits.bit_length() + 7) // 8, "little"),
        )

    def _transmit(self, sequence: int, now: float) -> int:
        self._last_transmission += 1
        self._transmissions.append(_Transmission(self._last_transmission, sequence, now))
        self._probe_due = False  # any numbered frame brings the echo that a probe would
        if self._probe_at is None:
            self._probe_at = now + self._probe_seconds()
        return self._last_transmission

    # --- receiving -------------------------------------------------------------------------------

    @property
    def expected(self) -> int:
        """The next sequence that has not arrived."""
        return self._expected

    def receive(self, frame: Frame) -> List[Message]:
        """Take a sequenced frame or a probe; return the messages that are now in order."""
        if frame.transmission <= self._highest_seen:
            self._counters.replayed += 1
            return []
        self._highest_seen = frame.transmission
        self._ack_due = True
        if frame.type == FrameType.PROBE:
            return []
        message = Message(frame.type, frame.stream, frame.flags, frame.payload)
        sequence = frame.number
        if sequence == self._expected:
            return self._deliver(message)
        if sequence < self._expected or sequence in self._held:
            self._counters.repeated += 1
        elif (
            sequence > self._expected + FLIGHT_FRAMES
            or self._held_bytes + len(frame.payload) > self.window
        ):
            self._counters.refused += 1  # as if lost: the echo has it resent, in its turn
        else:
            self._held[sequence] = message
            self._held_bytes += len(frame.payload)
        return []

    def _deliver(self, message: Message) -> List[Message]:
        ready = [message]
        self._expected += 1
        while self._expected in self._held:
            message = self._held.pop(self._expected)
            self._held_bytes -= len(message.payload)
            self._expected += 1
            ready.append(message)
        return ready

    def receive_ack(self, frame: Frame, now: float) -> List[Message]:
        """Take an ACK; return the messages of ours that it acknowledges in sequence.

        Raises ProtocolError when it acknowledges what was never sent.
        """
        echo = frame.transmission
        arrived = int.from_bytes(frame.payload, "little")
        if (
            frame.number + arrived.bit_length() + bool(arrived) > self._next_sequence
            or echo > self._last_transmission
            or len(frame.payload) > SELECTIVE_SIZE
        ):
            raise ProtocolError("the peer acknowledges what was never sent")
        if echo <= self._echoed:
            self._counters.replayed += 1
            return []
        self._echoed = echo
        acknowledged = self._acknowledge(frame.number)
        while arrived:
            lowest = arrived & -arrived
            arrived ^= lowest
            sent = self._unacknowledged.get(frame.number + lowest.bit_length())
            if sent is not None:
                sent.arrived = True
        self._take_echo(echo, now)
        return acknowledged

    def _acknowledge(self, expected: int) -> List[Message]:
        done = []
        while self._acknowledged < expected:
            message = self._unacknowledged.pop(self._acknowledged).message
            self._flight_bytes -= len(message.payload)
            self._acknowledged += 1
            done.append(message)
        return done

    def _take_echo(self, echo: int, now: float) -> None:
        transmissions = self._transmissions
        latest = None
        while transmissions and transmissions[0].number <= echo:
            latest = transmissions.popleft()
            sent = self._unacknowledged.get(latest.sequence)
            if sent is not None and not sent.arrived:
                self._lost.append(latest.sequence)
        if latest is not None and latest.number == echo:
            self._measure(now - latest.sent_at)
        self._back_off = 1
        self._probe_at = now + self._probe_seconds() if transmissions else None

    # --- connections and timer -------------------------------------------------------------------

    def resume(self, peer_expects: int) -> List[Message]:
        """Go on over a new connection; return the messages that `peer_expects` acknowledges.

        What it expects may be older than what it has acknowledged since (a greeting repeated
        after a false alarm): then it acknowledges nothing, and what is resent is dropped there.
        Raises ProtocolError when it expects what was never sent.
        """
        if peer_expects > self._next_sequence:
            raise ProtocolError("the peer expects a sequence that was never sent")
        acknowledged = self._acknowledge(peer_expects)
        self._lost = deque(self._unacknowledged)
        self._transmissions.clear()
        self._ack_due = False
        self._probe_at, self._probe_due, self._back_off = None, False, 1
        return acknowledged

    def tick(self, now: float) -> None:
        """Ask for a probe when nothing has been echoed for too long."""
        if self._probe_at is not None and now >= self._probe_at:
            self._probe_at = None
            self._probe_due = True
            self._back_off = min(self._back_off * 2, 64)

    def deadline(self) -> Optional[float]:
        """Return when `tick` has something to do."""
        return self._probe_at

    def _measure(self, sample: float) -> None:
        # RFC 6298 section 2; every echo names one transmission, so resends need no Karn rule.
        if self._round_trip is None:
            self._round_trip, self._variation = sample, sample / 2
        else:
            self._variation += (abs(self._round_trip - sample) - self._variation) / 4
            self._round_trip += (sample - self._round_trip) / 8

    def _probe_seconds(self) -> float:
        if self._round_trip is None:
            seconds = FIRST_PROBE_SECONDS
        else:
            seconds = max(MIN_PROBE_SECONDS, self._round_trip + 4 * self._variation)
        return min(MAX_PROBE_SECONDS, seconds * self._back_off)


def _sequenced(message: Message, sequence: int, transmission: int) -> Frame:
    return Frame(
        message.type, message.stream, message.flags, sequence, transmission, message.payload
    )
