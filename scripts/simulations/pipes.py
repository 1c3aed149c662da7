"""What several share at the same time: a network's bandwidth, a machine's processors. Pure.

Each user has a rate that it would have alone. When all together want more than there is, all are
slowed down alike. So instead of everybody's end, which every arrival would change, a pipe keeps how
many seconds one who is alone would have had: whoever comes at 5 and takes 3 leaves when that has
reached 8. Each arrival and departure costs the logarithm of their number.
"""

from __future__ import annotations

import heapq
import math

NEVER = math.inf


class Pipe:
    """Gives `rate` units in a second, to all together.

    `end` is when the first of all will be done if nobody comes, or NEVER.
    """

    __slots__ = (
        *("end", "units", "busy_seconds"),
        *("_rate", "_users", "_wanted", "_speed", "_alone", "_now", "_arrivals"),
    )

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"a pipe with a rate of {rate} lets nothing through")
        self.end = NEVER
        self.units = 0.0  # that were asked for in all
        self.busy_seconds = 0.0  # as if it had run at its full rate or not at all
        self._rate = rate
        self._users: list[tuple[float, int, int, float]] = []  # leaves at, arrival, who, rate
        self._wanted = 0.0  # the sum of all users' rates
        self._speed = 1.0  # of all, as a share of what each would have alone
        self._alone = 0.0  # seconds that one who is never slowed down would have had
        self._now = 0.0
        self._arrivals = 0

    def add(self, now: float, who: int, units: float, *, most: float) -> None:
        """Let `who` begin to use the pipe: for so many units, at a rate of `most` when alone."""
        self._advance(now)
        most = min(most, self._rate)
        self._arrivals += 1
        self.units += units
        self._wanted += most
        heapq.heappush(self._users, (self._alone + units / most, self._arrivals, who, most))
        self._look_ahead()

    def pop(self) -> int:
        """Let time pass to `end`, and take out who is done then."""
        self._advance(self.end)
        leaves, _, who, most = heapq.heappop(self._users)
        self._alone = max(self._alone, leaves)  # what rounding left
        self._wanted = self._wanted - most if self._users else 0.0
        self._look_ahead()
        return who

    def _look_ahead(self) -> None:
        """Find out how fast all are from now on, and when the first will be done."""
        if not self._users:
            self.end = NEVER
            return
        self._speed = min(self._rate / self._wanted, 1.0)
        self.end = self._now + max(self._users[0][0] - self._alone, 0.0) / self._speed

    def _advance(self, now: float) -> None:
        if self._users:
            passed = now - self._now
            self._alone += passed * self._speed
            self.busy_seconds += passed * min(self._wanted / self._rate, 1.0)
        self._now = now
