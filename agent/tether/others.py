"""The processes beside the main one: execs and copies, from their request to their last word.

Owns which numbers may be used, what is told of each, and in which order its end is. A process's
bytes are `relayed`'s matter.
"""

from __future__ import annotations

from agent.bare_tools import deque
from agent.hints import Callable, Deque, Dict, List, Mapping, Optional, Set, Tuple
from agent.tether.errors import StartError
from agent.tether.messages import MAIN, describe_exit, describe_failure
from agent.tether.poller import Poller
from agent.tether.process import Launch
from agent.tether.relayed import Relayed
from agent.wire import STDERR, STDOUT, Endpoint, stream_of

# An exec that has ended does not wait longer for the ends of its output: what it has left running
# may hold them open for ever. Docker's time.
DRAIN_SECONDS = 2.0

# Starts what an "exec", "copy-in" or "copy-out" message asks for; StartError when it cannot.
Starter = Callable[[Mapping[str, object]], Launch]


class Others:
    """They are in `processes` by number from their start until their ends have been told.

    `kills` counts the processes of the control group that were killed for want of memory.
    """

    def __init__(
        self,
        processes: Dict[int, Relayed],
        endpoint: Endpoint,
        poller: Poller,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.kills: Callable[[], int] = lambda: 0
        self._processes = processes
        self._endpoint = endpoint
        self._poller = poller
        self._clock = clock
        self._opened: Set[int] = set()  # numbers whose streams are there and that nobody uses
        self._draining: Deque[Tuple[float, Relayed]] = deque()
        self._leaving: List[Relayed] = []  # over, and their output is on its way

    # --- numbers ---------------------------------------------------------------------------------

    def open(self, number: int) -> None:
        """Learn that the streams of a number are there."""
        self._opened.add(number)

    def close(self, number: int) -> None:
        """Learn that they are no more."""
        self._opened.discard(number)

    def start(
        self, number: int, message: Mapping[str, object], starter: Optional[Starter]
    ) -> Optional[Relayed]:
        """Start what a message asks for; None when that cannot be, which the host is told.

        `starter` is None while there is no main process that runs.
        """
        if number not in self._opened:
            return None  # its number is in use, or its streams were never opened
        self._opened.discard(number)
        try:
            if starter is None:
                raise StartError("world", "the main process does not run")
            launch = starter(message)
        except StartError as error:
            for which in (STDOUT, STDERR):
                self._endpoint.finish(stream_of(number, which))
            self._endpoint.control(describe_failure(number, error))
            return None
        relayed = Relayed(
            number,
            launch,
            self._endpoint,
            self._poller,
            on_start=self._tell_start,
            on_over=self._bury,
        )
        relayed.kills_before = self.kills()
        self._processes[number] = relayed
        return relayed

    def _tell_start(self, relayed: Relayed) -> None:
        told = {"type": "started", "process": relayed.number, "pid": relayed.pid}
        self._endpoint.control(told)

    # --- ends ------------------------------------------------------------------------------------

    def died(self, relayed: Relayed) -> None:
        """Learn that one has been collected; from now on its outputs have only so long."""
        # Its death may be seen before the report of its start, which brings the outputs.
        if not relayed.is_over:
            self._draining.append((self._clock() + DRAIN_SECONDS, relayed))

    def deadline(self) -> Optional[float]:
        """Return when `tick` is to be called."""
        return self._draining[0][0] if self._draining else None

    def tick(self, now: float) -> None:
        """Wait no longer for outputs whose time is over."""
        while self._draining and now >= self._draining[0][0]:
            self._draining.popleft()[1].cut_off()

    def _bury(self, relayed: Relayed) -> None:
        """Take leave of a process, all of whose output the endpoint has accepted."""
        if relayed.failure is None:
            self._leaving.append(relayed)
            return
        del self._processes[relayed.number]
        self._endpoint.control(describe_failure(relayed.number, relayed.failure))

    def report_ends(self) -> bool:
        """Tell how processes ended whose output has left, so that it arrives before.

        Return whether anything was looked at.
        """
        if not self._leaving:
            return False
        for relayed in [r for r in self._leaving if has_left(self._endpoint, r.number)]:
            self._leaving.remove(relayed)
            del self._processes[relayed.number]
            assert relayed.status is not None
            oom = self.kills() > relayed.kills_before
            message = describe_exit(relayed.status, out_of_memory=oom)
            self._endpoint.control({**message, "process": relayed.number})
        return True

    def abandon(self, endpoint: Endpoint) -> None:
        """End them all with the session that they were part of, and go on in another."""
        self._endpoint = endpoint
        for number, relayed in list(self._processes.items()):
            if number != MAIN:
                del self._processes[number]
                relayed.abandon()
        self._opened.clear()
        self._draining.clear()
        self._leaving.clear()


def has_left(endpoint: Endpoint, number: int) -> bool:
    """Return whether a process's outputs have been handed to the link, their ends included."""
    return all(endpoint.has_left(stream_of(number, which)) for which in (STDOUT, STDERR))
