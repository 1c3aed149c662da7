"""What several share at the same time: a network's bandwidth, a machine's processors. Pure.

All who use a pipe get the same rate, up to what one alone can have. Instead of the end of each,
which every arrival would change, it keeps how much a user who was there from the beginning would
have had: whoever comes at 5 and wants 3 leaves when that has reached 8. So each arrival and
departure costs the logarithm of their number.
"""

from __future__ import annotations

import heapq
import math

NEVER = math.inf


class Pipe:
    """Gives `rate` units in a second to all, and at most `each` to one."""

    def __init__(self, rate: float, each: float = math.inf) -> None:
        if rate <= 0 or each <= 0:
            raise ValueError(f"a pipe with a rate of {rate}, {each} for one, lets nothing through")
        self._rate = rate
        self._each = each
        self._users: list[tuple[float, int, int]] = []  # leaves at, order of arrival, who
        self._given = 0.0  # to one who was there all the time
        self._now = 0.0
        self._arrivals = 0
        self.units = 0.0  # that went through in all
        self.busy_seconds = 0.0  # as if it had run at its full rate or not at all

    def add(self, now: float, who: int, units: float) -> None:
        """Let `who` begin to use the pipe, for so many units."""
        self._advance(now)
        self._arrivals += 1
        self.units += units
        heapq.heappush(self._users, (self._given + units, self._arrivals, who))

    def next_end(self) -> float:
        """Return when the first of all will be done if nobody comes, or NEVER."""
        if not self._users:
            return NEVER
        left = max(self._users[0][0] - self._given, 0.0)
        return self._now + left / min(self._each, self._rate / len(self._users))

    def pop(self, now: float) -> int:
        """Take out who is done at `now`, which `next_end` returned."""
        self._advance(now)
        leaves, _, who = heapq.heappop(self._users)
        self._given = max(self._given, leaves)  # what rounding left
        return who

    def _advance(self, now: float) -> None:
        if self._users:
            count = len(self._users)
            one = min(self._each, self._rate / count)
            self._given += (now - self._now) * one
            self.busy_seconds += (now - self._now) * min(one * count / self._rate, 1.0)
        self._now = now
