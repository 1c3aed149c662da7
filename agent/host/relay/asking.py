"""When a guest is asked whether it is still there, and when to look around. Pure.

Owns the times of both. An answer wakes the guest up, and its host with it: a machine that is quiet,
and that nobody wants to know about, is hardly ever asked.
"""

from __future__ import annotations


class Asking:
    """Knows when a question is due, and since when the guest owes an answer.

    `seconds` are the silence after which a guest is asked that somebody waits for, `idle_seconds`
    those for any other.
    """

    def __init__(self, seconds: float, idle_seconds: float) -> None:
        self.asked_at: float | None = None  # and not answered since
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._wanted_at: float | None = None

    def want(self, now: float) -> None:
        """Learn that somebody has come who wants to know how things stand."""
        self._wanted_at = now

    def reset(self) -> None:
        """Begin anew, on a new connection."""
        self.asked_at = None

    def heard(self, at: float | None) -> float | None:
        """Learn when the guest was last heard; return how long an answer took, if this is one."""
        took = None
        if at is not None and self.asked_at is not None and at >= self.asked_at:
            took = at - self.asked_at
            self.asked_at = None
        if at is not None and self._wanted_at is not None and at >= self._wanted_at:
            self._wanted_at = None
        return took

    def is_due(self, now: float, quiet_since: float, *, owes: bool) -> bool:
        """Return whether to ask now, and note that it is asked then.

        `owes`: the guest has not acknowledged all that it was sent.
        """
        waited_for = owes or self._wanted_at is not None
        seconds = self._seconds if waited_for else self._idle_seconds
        if self.asked_at is not None or now - quiet_since < seconds:
            return False
        self.asked_at = now
        return True


class Looking:
    """Knows when the guest is to look around, for its clock and its disks are not as they were.

    Every `seconds`, after a pause, and when somebody comes who may care, if the last time is
    `visit_seconds` ago: a machine that stood still does not notice that itself.
    """

    def __init__(self, now: float, seconds: float, visit_seconds: float) -> None:
        self._seconds = seconds
        self._visit_seconds = visit_seconds
        self._last = now
        self._due = now + seconds

    def visited(self, now: float) -> None:
        """Learn that somebody has come."""
        if now - self._last >= self._visit_seconds:
            self._due = now

    def paused(self, now: float) -> None:
        """Learn that the guest, or its host with it, may have stood still."""
        self._due = now

    def is_due(self, now: float) -> bool:
        """Return whether to look around now, and note that it does."""
        if now < self._due:
            return False
        self._last = now
        self._due = now + self._seconds
        return True
