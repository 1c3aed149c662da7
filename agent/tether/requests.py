"""What a VMware hypervisor asks of its guest, answered in the supervisor's loop.

Owns the connection, which the hypervisor may cut at any time (a vMotion does), and when it is made
anew. On a virtual socket requests come by themselves, and the guest says each second that it lives;
the backdoor is asked ten times a second.
"""

from __future__ import annotations

import select
import time

from agent.hints import Callable, Optional
from agent.tether import log
from agent.tether.appearance import RETRY_SECONDS as TELL_SECONDS
from agent.tether.appearance import Appearance
from agent.tether.companion import Tell, Watcher
from agent.tether.poller import Poller
from agent.tether.tclo import Tclo
from agent.tether.tclo_lines import TcloLine

RETRY_SECONDS = 5.0  # doubled after each failure
RETRY_SECONDS_MAX = 300.0
MOST_AT_ONCE = 16  # requests in one turn of the loop, whatever the hypervisor has


class GuestRequests(Watcher):
    """A companion that has requests answered by `tclo`. `open_line` raises OSError.

    What it says is for the hypervisor, so that another host is told nothing again.
    """

    def __init__(
        self,
        open_line: Callable[[], TcloLine],
        tclo: Tclo,
        appearance: Appearance,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_line = open_line
        self._tclo = tclo
        self._appearance = appearance
        self._clock = clock
        self._line: Optional[TcloLine] = None
        self._poller: Optional[Poller] = None
        self._turn_at: Optional[float] = None
        self._retry_at: Optional[float] = None
        self._tell_at: Optional[float] = None
        self._pause = RETRY_SECONDS

    # --- a companion -----------------------------------------------------------------------------

    def attach(self, poller: Poller, _tell: Tell) -> None:
        """Open the line, and have the loop wait for requests."""
        self._poller = poller
        self._open()

    def due(self) -> Optional[float]:
        """Return when the line's next turn is, or the next try to open one."""
        times = (self._turn_at, self._retry_at, self._tell_at)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._retry_at is not None and now >= self._retry_at:
            self._open()
        if self._turn_at is not None and now >= self._turn_at:
            self._turn()
        self._look_after_appearance(now)

    # --- the line --------------------------------------------------------------------------------

    def _open(self) -> None:
        assert self._poller is not None
        try:
            line = self._line = self._open_line()
        except OSError as error:
            log.info("the hypervisor has no requests for us: {}".format(error))
            self._retry()
            return
        self._retry_at = None
        self._plan_turn()
        if line.descriptor is not None:
            self._poller.watch(line.descriptor, select.EPOLLIN, self._take)

    def _close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            if line.descriptor is not None and self._poller is not None:
                self._poller.watch(line.descriptor, 0, self._take)
            line.close()
        self._turn_at = None
        self._retry()

    def _retry(self) -> None:
        self._retry_at = self._clock() + self._pause
        self._pause = min(RETRY_SECONDS_MAX, self._pause * 2)

    def _plan_turn(self) -> None:
        seconds = None if self._line is None else self._line.interval_seconds
        self._turn_at = None if seconds is None else self._clock() + seconds

    # --- the requests ----------------------------------------------------------------------------

    def _take(self, _mask: int) -> None:
        """Answer what has come by itself."""
        if self._line is not None:
            try:
                for request in self._line.read():
                    self._answer(self._line, request)
            except (OSError, ValueError) as error:  # it has gone, or makes no sense
                self._give_up(error)
            if self._turn_at is None:
                self._plan_turn()

    def _turn(self) -> None:
        """Say that we are there, and answer what is asked then, until nothing is."""
        if self._line is not None:
            try:
                for _ in range(MOST_AT_ONCE):
                    requests = self._line.turn()
                    for request in requests:
                        self._answer(self._line, request)
                    if not requests:
                        break
            except (OSError, ValueError) as error:
                self._give_up(error)
        self._plan_turn()

    def _answer(self, line: TcloLine, request: bytes) -> None:
        self._pause = RETRY_SECONDS
        reply, follow = self._tclo.take(request)
        line.answer(reply)
        follow()

    def _give_up(self, error: Exception) -> None:
        log.info("the hypervisor's line is lost: {}".format(error))
        self._close()

    def _look_after_appearance(self, now: float) -> None:
        """Tell again what nobody took, from time to time."""
        if not self._appearance.is_behind:
            self._tell_at = None
        elif self._tell_at is None:
            self._tell_at = now + TELL_SECONDS
        elif now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            self._appearance.tell()
