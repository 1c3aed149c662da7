"""When to ask the peer what has arrived. Owns the round trip's measure and the probe's time."""

from __future__ import annotations

from agent.hints import Optional
from agent.wire.c_frame import FIRST_PROBE_SECONDS, MAX_PROBE_SECONDS, MIN_PROBE_SECONDS


class ProbeTimer:
    """Runs while something is unanswered; asks for a probe, never for data."""

    def __init__(self) -> None:
        self._round_trip: Optional[float] = None
        self._variation = 0.0
        self._back_off = 1
        self.probe_at: Optional[float] = None
        self.probe_due = False

    def transmitted(self, now: float) -> None:
        """Note a numbered frame: it brings the echo that a probe would."""
        self.probe_due = False
        if self.probe_at is None:
            self.probe_at = now + self._seconds()

    def echoed(self, now: float, *, more: bool) -> None:
        """Note an echo; `more` says that later transmissions still wait for theirs."""
        self._back_off = 1
        self.probe_at = now + self._seconds() if more else None

    def tick(self, now: float) -> None:
        """Ask for a probe when nothing has been echoed for too long."""
        if self.probe_at is not None and now >= self.probe_at:
            self.probe_at = None
            self.probe_due = True
            self._back_off = min(self._back_off * 2, 64)

    def reset(self) -> None:
        """Begin anew on a new connection; what was measured stays."""
        self.probe_at, self.probe_due, self._back_off = None, False, 1

    def measure(self, sample: float) -> None:
        """Take a round trip in seconds."""
        # RFC 6298 section 2; every echo names one transmission, so resends need no Karn rule.
        if self._round_trip is None:
            self._round_trip, self._variation = sample, sample / 2
        else:
            self._variation += (abs(self._round_trip - sample) - self._variation) / 4
            self._round_trip += (sample - self._round_trip) / 8

    def _seconds(self) -> float:
        if self._round_trip is None:
            seconds = FIRST_PROBE_SECONDS
        else:
            seconds = max(MIN_PROBE_SECONDS, self._round_trip + 4 * self._variation)
        return min(MAX_PROBE_SECONDS, seconds * self._back_off)
