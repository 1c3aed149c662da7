"""The receiving half of the reliable link. Owns order, pieces, and what is acknowledged.

Everything held is bounded: by the window, by the frames that may be in flight, and by one frame
that is the next one wanted.
"""

from __future__ import annotations

from agent.hints import Dict, List, Optional
from agent.wire.c_frame import FLIGHT_FRAMES, MIN_PAYLOAD, PIECE, Flag, FrameType
from agent.wire.events import Counters, ProtocolError
from agent.wire.frames import Frame


class _Assembly:
    """A payload of which some pieces have arrived; `cells` has a bit for every 64 bytes."""

    __slots__ = ("cells", "payload")

    def __init__(self, total: int) -> None:
        self.payload = bytearray(total)
        self.cells = 0

    @property
    def complete(self) -> bool:
        return self.cells == (1 << _cells(len(self.payload))) - 1


class Receiver:
    """Puts the peer's frames in order, each once; outlives connections."""

    def __init__(self, window: int, max_payload: int, counters: Counters) -> None:
        self._window = window  # bytes held behind a gap
        self._max_payload = max_payload
        self._counters = counters
        self.expected = 0  # the next sequence that has not arrived
        self._held: Dict[int, Frame] = {}
        self._assemblies: Dict[int, _Assembly] = {}
        self.held_bytes = 0  # in frames and assemblies
        self._highest_seen = 0
        self.ack_due = False  # something arrived since the last ACK

    def receive(self, frame: Frame) -> List[Frame]:
        """Take a sequenced frame or a probe; return the frames that are now in order.

        Raises ProtocolError on pieces that do not fit together.
        """
        if frame.transmission <= self._highest_seen:
            self._counters.replayed += 1
            return []
        self._highest_seen = frame.transmission
        self.ack_due = True
        if frame.type == FrameType.PROBE:
            return []
        if frame.flags & Flag.PIECE or self._assemblies:
            whole = self._assemble(frame)
            if whole is None:
                return []
            frame = whole
        if frame.number == self.expected:
            self.expected += 1
            if not self._held:
                return [frame]
            return self._release(frame)
        if self._acceptable(frame.number, len(frame.payload)):
            self._held[frame.number] = frame
            self.held_bytes += len(frame.payload)
        return []

    def acknowledgement(self) -> Frame:
        """Return an ACK of all that arrived; to be called when `ack_due`."""
        self.ack_due = False
        bits = 0
        for sequence in self._held:
            bits |= 1 << (sequence - self.expected - 1)
        return Frame(
            FrameType.ACK,
            number=self.expected,
            transmission=self._highest_seen,
            payload=bits.to_bytes((bits.bit_length() + 7) // 8, "little"),
        )

    def resume(self) -> None:
        """Go on over a new connection: the greeting has acknowledged what there was."""
        self.ack_due = False

    def peer_restarted(self) -> None:
        """Note that the peer's new process will use anew the sequences behind the gap."""
        self._held.clear()
        self._assemblies.clear()
        self.held_bytes = 0

    def _release(self, frame: Frame) -> List[Frame]:
        ready = [frame]
        while self.expected in self._held:
            held = self._held.pop(self.expected)
            self.held_bytes -= len(held.payload)
            self.expected += 1
            ready.append(held)
        return ready

    def _acceptable(self, sequence: int, size: int) -> bool:
        """Whether `size` bytes of this sequence may be held; counts what may not."""
        if sequence < self.expected or sequence in self._held:
            self._counters.repeated += 1
            return False
        if sequence > self.expected + FLIGHT_FRAMES or (
            sequence != self.expected and self.held_bytes + size > self._window
        ):
            self._counters.refused += 1  # as if lost: the echo has it resent, in its turn
            return False
        return True

    def _assemble(self, frame: Frame) -> Optional[Frame]:
        """Return the whole frame, when this one is or completes it."""
        sequence = frame.number
        assembly = self._assemblies.get(sequence)
        if not frame.flags & Flag.PIECE:
            if assembly is not None:
                self._drop(sequence)
            return frame
        if len(frame.payload) <= PIECE.size:
            raise ProtocolError("a piece of nothing")
        offset, total = PIECE.unpack_from(frame.payload)
        size = len(frame.payload) - PIECE.size
        if (
            total > self._max_payload
            or offset + size > total
            or offset % MIN_PAYLOAD
            or (size % MIN_PAYLOAD and offset + size != total)
        ):
            raise ProtocolError("a piece that is no part of a frame")
        if assembly is None:
            if not self._acceptable(sequence, total):
                return None
            assembly = self._assemblies[sequence] = _Assembly(total)
            self.held_bytes += total
        elif len(assembly.payload) != total:
            raise ProtocolError("pieces of two frames under one sequence")
        assembly.payload[offset : offset + size] = memoryview(frame.payload)[PIECE.size :]
        assembly.cells |= ((1 << _cells(size)) - 1) << (offset // MIN_PAYLOAD)
        if not assembly.complete:
            return None
        self._drop(sequence)
        return frame._replace(flags=frame.flags & ~Flag.PIECE, payload=bytes(assembly.payload))

    def _drop(self, sequence: int) -> None:
        self.held_bytes -= len(self._assemblies.pop(sequence).payload)


def _cells(size: int) -> int:
    return -(-size // MIN_PAYLOAD)
