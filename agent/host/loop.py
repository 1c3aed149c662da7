"""The one loop: readiness of descriptors, timers, and what is to be done before the next wait.

epoll, since it costs nothing for the thousands of connections that are idle. Knows no telnet.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable

_READY_AT_ONCE = 256  # the kernel puts those that are left at the front of the next turn
READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR  # reported whether asked for or not

Handler = Callable[[int], None]


def slept_seconds() -> float:
    """Return how long this host has been suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class LoopTimer:
    """A call at a time, as seam.Timer."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Let it not be called."""
        self.call = None


class Loop:
    """Wait for descriptors and for time; is a seam.Scheduler."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._forgotten: set[int] = set()  # in this turn
        self._timers: list[tuple[float, int, LoopTimer]] = []
        self._count = itertools.count()
        self._soon: list[Callable[[], None]] = []
        self._running = False

    def now(self) -> float:
        """Return the time of the monotonic clock, in seconds."""
        return time.monotonic()

    def call_at(self, when: float, call: Callable[[], None]) -> LoopTimer:
        """Have `call` called at `when`, or soon after."""
        timer = LoopTimer(call)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have `call` called before the next wait."""
        self._soon.append(call)

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler` with what is ready of `events`, and with GONE, until told otherwise."""
        known = self._masks.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, events)
        elif known != events:
            self._epoll.modify(descriptor, events)
        self._masks[descriptor] = events
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Stop watching, which must be done before the descriptor is closed."""
        if self._masks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            del self._handlers[descriptor]
            self._forgotten.add(descriptor)

    def run(self) -> None:
        """Run until `stop`."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """End `run` after the present turn."""
        self._running = False

    def turn(self) -> None:
        """Wait for the next thing to happen, and do all that can be done."""
        ready = self._epoll.poll(self._patience(), _READY_AT_ONCE)
        self._forgotten.clear()
        for descriptor, events in ready:
            # An earlier handler may have forgotten it, and its number be another one's by now. If
            # that is ready too, the next turn says so.
            if descriptor not in self._forgotten:
                self._handlers[descriptor](events)
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()
        pending, self._soon = self._soon, []
        for call in pending:
            call()

    def close(self) -> None:
        """Let go of the descriptor."""
        self._epoll.close()

    def _patience(self) -> float:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if self._soon:
            return 0
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else -1
