"""When to ask again. Owns backoff, jitter and the reading of Retry-After; imports no library."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait between attempts. The clock and the dice are arguments, for tests.

    The n-th wait is between half of and the whole of `first_seconds` * 2**n, at most
    `longest_seconds`. A server that says how long (`Retry-After`) is obeyed up to
    `longest_wish_seconds`.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 20.0
    longest_wish_seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    dice: Callable[[], float] = random.random  # in [0, 1)

    def delay_seconds(self, attempt: int, wish_seconds: float | None) -> float:
        """Return how long to wait after the attempt of this number, the first being 0."""
        if wish_seconds is not None:
            return min(wish_seconds, self.longest_wish_seconds)
        whole = min(self.first_seconds * 2.0 ** min(attempt, 30), self.longest_seconds)
        # Without dice, all who were cut off at once would come back at once.
        return whole * (1 + self.dice()) / 2


def retry_after_seconds(
    text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date. (RFC 9110 section 10.2.3)

    None stands for one that is missing or malformed; a date that has passed is 0.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - slow to load, seldom needed

    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for years and zones of many digits
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    left = until - now()
    return max(0.0, left.total_seconds())
