"""How the line turns out to be: how large a frame it carries, and how fast it is.

Owns the two measures and nothing that is sent. Frames are counted, bytes are timed; both follow a
line that changes.
"""

from __future__ import annotations

from agent.bare_tools import deque
from agent.hints import Deque, Optional
from agent.wire.c_frame import FIRST_PAYLOAD, MIN_PAYLOAD

_JUDGED = 16  # frames of a verdict: two lost are more than 10 %
_LOST = 2
_CLEAN = 64  # frames without a loss before larger ones are tried

_SAMPLE_BYTES = 65536
_SAMPLES = 4
_SLOW = 5e6  # bytes per second, below which a processor has time to spare for each byte
_LOOK_AGAIN = 32  # one sample in so many is taken without compression


class FrameSize:
    """The payload to send at most: halved by loss, doubled after a clean while.

    It begins small: on a line that damages every large frame, a window full of them is lost before
    the first echo says so, and a line that is cut often enough never brings one.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self.payload = min(largest, FIRST_PAYLOAD)
        self._judged = 0
        self._lost = 0
        self._clean = 0

    def limit(self, largest: int) -> None:
        """Learn what the peer takes."""
        self._largest = largest
        self.payload = min(self.payload, largest)

    def arrived(self, count: int) -> None:
        """Note frames that got through at their last transmission."""
        self._judged += count
        self._clean += count
        if self._judged >= _JUDGED:
            self._judged, self._lost = 0, 0
        if self._clean >= _CLEAN:
            self._clean = 0
            self.payload = min(self._largest, self.payload * 2)

    def lost(self, count: int) -> None:
        """Note frames that one echo has shown not to have got through; halve once at most."""
        self._judged += count
        self._lost += count
        self._clean = 0
        if self._lost >= _LOST:
            half = self.payload // 2
            self.payload = max(MIN_PAYLOAD, half - half % MIN_PAYLOAD)
            self._judged, self._lost = 0, 0


class LineRate:
    """Bytes per second that the line takes while there is always more to send.

    A sample is 64 KiB long; the best of the last few counts, for a peer that pauses makes a line
    look slow and nothing makes it look fast.
    """

    def __init__(self) -> None:
        self._samples: Deque[float] = deque(maxlen=_SAMPLES)
        self._since: Optional[float] = None
        self._bytes = 0
        self._count = 0  # of samples so far
        self.bytes_per_second: Optional[float] = None  # as measured
        self.slow = False  # whether to spend the processor's time on sending less

    def asked(self, now: float, *, more: bool) -> None:
        """Note that the line has taken what it wants; `more` says whether data still waits."""
        if not more:
            self._since = None
        elif self._since is None:
            self._since, self._bytes = now, 0

    def acknowledged(self, count: int, now: float) -> None:
        """Note bytes that have arrived."""
        if self._since is None:
            return
        self._bytes += count
        if self._bytes >= _SAMPLE_BYTES:
            seconds = now - self._since
            if seconds > 0:
                self._samples.append(self._bytes / seconds)
                self._count += 1
                best = self.bytes_per_second = max(self._samples)
                self.slow = best < _SLOW and self._count % _LOOK_AGAIN != 0
            self._since, self._bytes = now, 0
