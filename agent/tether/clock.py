"""The machine's clock, set by the host's: at the first hello, and when it has stood still.

Owns the exchange that measures the difference, and the rule when it is set. A machine that was
suspended, or whose hardware clock is wrong, cannot know it; the host asks it to compare. Only PID 1
does so: in somebody's own guest the clock is somebody's own matter.
"""

from __future__ import annotations

import time

from agent.hints import Callable, Dict, Mapping, Optional
from agent.tether import log
from agent.tether.companion import Tell

SECOND_NS = 10**9
# What is nearer is left alone: programs bear a small difference better than a clock that jumps.
TOLERANCE_NS = SECOND_NS
# An answer that took longer says too little; it is asked for again, so many times.
LONGEST_EXCHANGE_NS = 2 * SECOND_NS
MOST_TRIES = 5


class Clock:
    """Asks the host for the time. `now_ns` never goes back; `set_wall` sets the machine's clock."""

    def __init__(
        self,
        tell: Tell,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        set_wall: Optional[Callable[[int], None]] = None,
    ) -> None:
        self._tell = tell
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._set_wall = set_wall or _set_wall
        self._asked_ns: Optional[int] = None
        self._tries = 0

    def compare(self, _message: Mapping[str, object]) -> None:
        """Ask the host, whose answer sets the clock if it is wrong."""
        self._tries = 0
        self._ask()

    def take(self, message: Mapping[str, object]) -> None:
        """Take the host's answer. One to an older question, or to none, is no answer."""
        asked, there = message.get("asked_ns"), message.get("unix_ns")
        if self._asked_ns is None or asked != self._asked_ns:
            return
        if isinstance(there, int) and 0 <= there < 1 << 63:
            self._compare(there)

    def step(self, there_ns: int) -> None:
        """Take the time of somebody who has told it at once."""
        self._settle(there_ns, took_ns=0)

    def _ask(self) -> None:
        if self._tries < MOST_TRIES:
            self._tries += 1
            self._asked_ns = self._now_ns()
            question: Dict[str, object] = {"type": "clock", "process": 0}
            self._tell({**question, "asked_ns": self._asked_ns})

    def _compare(self, there_ns: int) -> None:
        assert self._asked_ns is not None
        took = self._now_ns() - self._asked_ns
        self._asked_ns = None
        if took > LONGEST_EXCHANGE_NS:
            self._ask()
            return
        self._settle(there_ns, took_ns=took)

    def _settle(self, there_ns: int, *, took_ns: int) -> None:
        wall = self._wall_ns()
        behind = there_ns + took_ns // 2 - wall  # the answer was on its way for a half
        if abs(behind) <= TOLERANCE_NS + took_ns // 2:
            return
        try:
            self._set_wall(wall + behind)
        except OSError as error:
            log.error("the clock cannot be set: {}".format(error))
            return
        log.info("the clock was {:.3f} s behind the host's and was set".format(behind / SECOND_NS))


def _set_wall(unix_ns: int) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, unix_ns)
