"""A stream that this end writes. Owns what waits, what it may send, and what it had to drop.

Bytes count in two ways: those that are carried, which need credit, and those that were written,
which are the carried ones and the dropped. Offsets are of the second kind.
"""

from __future__ import annotations

from agent.bare_tools import deque
from agent.hints import Deque, Optional, Tuple, Union
from agent.wire.c_frame import GAP, MAX_COUNT, Flag, FrameType
from agent.wire.events import ProtocolError
from agent.wire.sender import Message, Owner
from agent.wire.squeeze import Squeeze

# Pieces of at least this size are kept as they came: they become payloads without being copied
# once more. Smaller ones are gathered, or a million single bytes would take a million objects.
_LARGE = 4096


class _Waiting:
    """A queue of bytes: pieces go in, payloads come out."""

    __slots__ = ("_first", "_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: Deque[Union[bytes, bytearray]] = deque()
        self._first = 0  # bytes of the first piece that have been taken

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        size = len(data)
        pieces = self._pieces
        if size >= _LARGE:
            pieces.append(data)
        elif pieces and isinstance(pieces[-1], bytearray) and len(pieces[-1]) < _LARGE:
            pieces[-1].extend(data)
        elif size:
            pieces.append(bytearray(data))
        self.size += size

    def peek(self, count: int) -> Union[bytes, bytearray, memoryview]:
        """Return the first `count` bytes, of at least as many; valid until the next change."""
        first, pieces = self._first, self._pieces
        if len(pieces[0]) - first >= count:
            if not first and len(pieces[0]) == count:
                return pieces[0]
            return memoryview(pieces[0])[first : first + count]
        front = []
        left = count
        for piece in pieces:
            view = memoryview(piece)[first : first + left]
            front.append(view)
            left -= len(view)
            first = 0
            if not left:
                break
        return b"".join(front)

    def drop(self, count: int) -> None:
        """Forget the first `count` bytes, of at least as many."""
        self.size -= count
        count += self._first
        pieces = self._pieces
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.popleft())
        self._first = count

    def take(self, count: int) -> bytes:
        """Return the first `count` bytes, of at least as many, and forget them."""
        taken = bytes(self.peek(count)) if count else b""
        self.drop(count)
        return taken


class Pool:
    """What all streams of an end may keep together, and whether the peer is there to take it.

    The limit is for whoever comes first. Beyond it each stream may keep its part of half as much
    again, however few bytes that are, so that none waits for what others keep.
    """

    __slots__ = ("away", "limit", "share", "used")

    def __init__(self, limit: int, streams: int) -> None:
        self.limit = limit
        self.share = max(1, limit // 2 // streams)  # `streams` is how many there can be
        self.used = 0  # bytes waiting or in flight
        self.away = False

    def room(self, kept: int) -> int:
        """Return how many bytes more a stream may keep that keeps so many."""
        return max(self.limit - self.used, self.share - kept)


class Outgoing(Owner):
    """Bytes wait here from `accept` until they have been acknowledged."""

    __slots__ = (
        "_acknowledged",
        "_buffer_bytes",
        "_dropped",
        "_fin_due",
        "_gap",
        "_limit",
        "_pool",
        "_sent",
        "_squeeze",
        "_waiting",
        "done",
        "finished",
        "placed",
        "ring",
        "stream",
    )

    def __init__(self, stream: int, buffer_bytes: int, pool: Pool, *, placed: bool = True) -> None:
        self.stream = stream
        self.ring = False  # the newest bytes are worth more than the oldest while the peer is away
        self.finished = False  # by the writer
        self.done = False  # the peer has acknowledged the end
        self._buffer_bytes = buffer_bytes
        self._pool = pool
        self.placed = placed  # False: how much the peer has from an earlier process is not known
        self._waiting = _Waiting()
        self._sent = 0  # carried
        self._acknowledged = 0  # of those
        self._limit = 0  # of those
        self._dropped = 0
        self._gap = 0  # the last ones of those, of which the peer was not told yet
        self._fin_due = False
        self._squeeze: Optional[Squeeze] = None

    # --- the writer ------------------------------------------------------------------------------

    def writable(self) -> int:
        """Return how many bytes `accept` takes at least."""
        if self.finished or not self.placed:
            return 0
        pool = self._pool
        if self.ring and pool.away:
            return pool.limit
        waiting = self._waiting.size
        buffered = self._sent - self._acknowledged + waiting
        # The peer's credit alone would let it choose how much we buffer.
        room = min(
            self._limit - self._sent - waiting,
            self._buffer_bytes - buffered,
            pool.room(buffered),
        )
        return max(0, room)

    def accept(self, data: bytes, room: int) -> int:
        """Take what is writable, which is `room`, or all; return how much.

        Raises ValueError after `finish`.
        """
        if self.finished:
            raise ValueError("stream %d was finished" % self.stream)
        count = len(data)
        if count > room and not (self.ring and self._pool.away):
            count, data = room, data[:room]
        self._waiting.append(data)
        self._pool.used += count
        return count

    def finish(self) -> None:
        """Send the end after what waits."""
        if not self.finished:
            self.finished = self._fin_due = True

    def skip(self, count: int) -> None:
        """Begin after bytes that the peer will never see. Raises ValueError after `accept`."""
        if count < 0 or self._sent or self._waiting.size:
            raise ValueError("stream %d has begun" % self.stream)
        self._dropped += count
        self._gap += count

    def inherit(self, old: Outgoing) -> None:
        """Go on, in a new session, with what waits in a stream of another; the rest is a gap.

        To be called before anything else. What frames of the old session carried is part of the
        gap, whether or not it arrived: nobody is left who could say.
        """
        gone = old._sent + old._dropped
        if gone:
            self.skip(gone)
        self.ring = old.ring
        self._waiting, old._waiting = old._waiting, self._waiting
        self._pool.used += self._waiting.size
        if old.finished:
            self.finish()

    @property
    def waiting(self) -> int:
        """How many bytes wait to be sent."""
        return self._waiting.size

    @property
    def pending(self) -> bool:
        """Whether something was accepted that no frame has carried yet."""
        return bool(self._waiting.size) or self._fin_due or bool(self._gap)

    def drop(self, count: int) -> None:
        """Drop the `count` oldest bytes that wait."""
        self._waiting.drop(count)
        self._pool.used -= count
        self._dropped += count
        self._gap += count

    # --- the peer --------------------------------------------------------------------------------

    def grant(self, limit: int) -> None:
        """Take credit: a number of bytes since the beginning."""
        self._limit = max(self._limit, min(limit, MAX_COUNT))

    def acknowledge(self, message: Message) -> None:
        """Note that the peer has a message."""
        self._acknowledged += message.size
        self._pool.used -= message.size
        if message.flags & Flag.FIN:
            self.done = True

    def place(self, received: int, limit: int, *, finished: bool) -> bool:
        """Go on where the process before this one came to; return whether that was news.

        Raises ProtocolError when that is no place to be.
        """
        if self.placed:
            return False
        if received > min(limit, MAX_COUNT):
            raise ProtocolError("more on stream %d than there was credit for" % self.stream)
        self.placed = True
        self._sent = self._acknowledged = received
        self.grant(limit)
        if finished:
            self.finished = self.done = True
            self._fin_due = False
        return True

    # --- sending ---------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is something to send that the peer's credit allows."""
        if not self.placed:
            return False
        if self._waiting.size:
            return self._limit > self._sent or bool(self._gap)
        return self._fin_due or bool(self._gap)

    def next_message(self, room: int, payload: int, *, squeeze: bool) -> Optional[Message]:
        """Return the next frame's message, of at most `payload` bytes; None when it lacks room.

        To be called when `ready`.
        """
        if self._gap:
            return self._gap_message() if room >= GAP.size else None
        waiting = self._waiting.size
        allowed = min(waiting, self._limit - self._sent)
        size = min(allowed, payload)
        if size > room:  # a full frame later rather than a sliver now
            return None
        squeezed = self._squeezed(allowed, payload) if squeeze else None
        if squeezed is None:
            flags, carried = 0, self._waiting.take(size)
        else:
            flags, (size, carried) = Flag.COMPRESSED, squeezed
            self._waiting.drop(size)
        self._sent += size
        if self._fin_due and size == waiting:
            self._fin_due = False
            flags |= Flag.FIN
        return Message(FrameType.DATA, flags, self.stream, carried, owner=self, size=size)

    def _squeezed(self, allowed: int, payload: int) -> Optional[Tuple[int, bytes]]:
        if self._squeeze is None:
            self._squeeze = Squeeze()
        return self._squeeze.squeeze(self._waiting.peek, allowed, payload)

    def _gap_message(self) -> Message:
        offset = self._sent + self._dropped - self._gap
        payload = GAP.pack(offset, self._gap)
        self._gap = 0
        return Message(FrameType.GAP, 0, self.stream, payload, owner=self)
