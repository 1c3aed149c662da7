"""The running guest: one loop over the line to the host, all processes' stdio, and signals.

Owns the loop, what the host asks for, reaping, and the end. One thread, one epoll, one place that
waits for children: SIGCHLD wakes the loop and waitpid(-1) collects the processes and any orphan
alike, so no status can be taken by somebody else. When the main process has ended, the kernel has
killed the rest of its PID namespace: what else ran there is reported first, the main process last,
and the machine may be switched off when the host has acknowledged that, or is not there.
"""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from collections import deque
from types import FrameType
from typing import Callable, Deque, Dict, List, Mapping, Optional, Set, Tuple

from agent.tether import log
from agent.tether.companion import Companion
from agent.tether.errors import StartError
from agent.tether.line import Line
from agent.tether.messages import MAIN, describe_exit, describe_failure, number_in
from agent.tether.poller import Poller
from agent.tether.process import Launch
from agent.tether.relayed import Relayed
from agent.wire import (
    STDERR,
    STDOUT,
    Closed,
    Control,
    ControlFullError,
    Data,
    Event,
    Finished,
    Opened,
    Writable,
    process_of,
    stream_of,
)

LINGER_SECONDS = 10.0  # how long a machine whose work is done waits for an absent host
STOP_SECONDS = 10.0  # Docker's default between the stop signal and SIGKILL
# An exec that has ended does not wait longer for the ends of its output: what it has left running
# may hold them open for ever. Docker's time.
DRAIN_SECONDS = 2.0
# A timer that is due again at once, on a line that takes nothing, must not become a busy loop.
MIN_WAIT_SECONDS = 0.005
MAX_WAIT_SECONDS = 600.0  # epoll counts milliseconds in 32 bits

STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGPWR)  # SIGINT is Ctrl-Alt-Del

# How often a new key is looked for: a host that is not there may have lost the old one.
RENEW_AWAY_SECONDS = 2.0
RENEW_SECONDS = 10.0
NONCE_BYTES = 32

# Starts what an "exec", "copy-in" or "copy-out" message asks for; StartError when it cannot.
Starter = Callable[[Mapping[str, object]], Launch]


class Supervisor:
    """Serves the host until the main process has ended and the host knows.

    A context manager: inside, it holds the program's signal handlers.
    """

    def __init__(
        self,
        line: Line,
        *,
        linger_seconds: float = LINGER_SECONDS,
        renew: Optional[Callable[[], Optional[bytes]]] = None,
        report: Optional[Callable[[Mapping[str, object]], None]] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._endpoint = line.endpoint
        self._renew = renew  # returns another key when there is one
        self._looked_at = clock()  # for another key
        self._report = report  # is told how the main process ended, whether or not a host is there
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._processes: Dict[int, Relayed] = {}  # by number, until they are over
        self._children: Dict[int, Relayed] = {}  # by pid, until they are collected
        self._opened: Set[int] = set()  # numbers whose streams are there and that nobody uses
        self._draining: Deque[Tuple[float, Relayed]] = deque()
        self._companions: List[Companion] = []
        self._fed: Set[Relayed] = set()  # got something for their stdin in this turn
        self._leaving: List[Relayed] = []  # over, and their output is on its way
        self._main: Optional[Relayed] = None
        self._start: Optional[Starter] = None
        self._kills: Callable[[], int] = _no_kills
        self._stop_signal: int = signal.SIGTERM
        self._stop_seconds = STOP_SECONDS
        self._end: Callable[[], None] = _nothing_left
        self._kill_at: Optional[float] = None
        self._farewell: Optional[Dict[str, object]] = None  # the last message, when it is known
        self._farewell_said = False
        self._hurried = False
        self._poller = Poller()
        self._line_descriptors: Tuple[int, ...] = ()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._handlers: Dict[int, object] = {}

    def __enter__(self) -> Supervisor:
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *STOP_REQUESTS):
            self._handlers[number] = signal.signal(number, _only_wake)
        self._poller.watch(self._wake_reader.fileno(), select.EPOLLIN, self._take_signals)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
        self._poller.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def accompany(self, companion: Companion) -> None:
        """Serve a companion in the loop from now on."""
        self._companions.append(companion)
        companion.attach(self._poller, self._tell)

    def _tell(self, message: Mapping[str, object]) -> bool:
        try:
            self._endpoint.control(dict(message))
        except ControlFullError:
            return False
        return True

    def report_failure(self, failure: StartError) -> None:
        """Tell the host that there is no process; return when it knows or is not there."""
        self._say_farewell("the process was not started", describe_failure(MAIN, failure))

    def supervise(
        self,
        launch: Launch,
        *,
        stop_signal: int,
        oom_kills: Callable[[], int],
        start: Optional[Starter] = None,
        stop_seconds: Optional[int] = None,
        end: Optional[Callable[[], None]] = None,
    ) -> None:
        """Relay for a process and whatever is started beside it until the host knows its end.

        `oom_kills` counts the processes that were killed for want of memory; `start` starts others;
        `end` kills what is left when the main process has ended, for without a PID namespace of its
        own the kernel does not. `stop_seconds` are between the stop signal and SIGKILL where the
        request to stop has none of its own; -1 waits for ever, as Docker's --stop-timeout.
        Raises agent.wire.ProtocolError when the host holds the key and breaks the protocol: there
        is nobody left to serve then, and the process goes on until the caller ends it.
        """
        self._stop_signal = stop_signal
        self._kills = oom_kills
        self._start = start
        self._end = end or _nothing_left
        if stop_seconds is not None:
            self._stop_seconds = stop_seconds if stop_seconds >= 0 else math.inf
        for which in (STDOUT, STDERR):
            self._endpoint.keep_newest(stream_of(MAIN, which))
        main = self._main = self._add(MAIN, launch)
        self._reap()  # its SIGCHLD may have come before our handler
        while not main.is_over:
            self._turn(None)
        self._kill_at = None
        if main.failure is not None:
            self.report_failure(main.failure)
        else:
            assert main.status is not None
            message = describe_exit(main.status, out_of_memory=oom_kills() > 0)
            self._say_farewell("the process ended with code {}".format(message["code"]), message)

    def _say_farewell(self, what: str, message: Dict[str, object]) -> None:
        """Wait until the host has everything, `message` last; for an absent one only so long."""
        gone_at: Optional[float] = None
        self._farewell = message
        self._line.send(self._clock())  # first, for the report may take a while
        if self._report is not None:
            self._report(message)
        while True:
            if not self._farewell_said and self._may_say_farewell():
                self._endpoint.control(message)
                self._farewell_said = True
                self._line.send(self._clock())
            if self._farewell_said and not self._endpoint.unacknowledged():
                return
            now = self._clock()
            if not self._endpoint.away and not self._hurried:
                gone_at = None
            elif gone_at is None:
                gone_at = now
                why = "the host is not there" if self._endpoint.away else "power-off was asked for"
                text = "{}; {}: at most {:g} s until the machine is switched off"
                log.error(text.format(what, why, self._linger_seconds))
            elif now >= gone_at + self._linger_seconds:
                log.error("the host did not acknowledge the last message")
                return
            self._turn(None if gone_at is None else gone_at + self._linger_seconds)

    def _may_say_farewell(self) -> bool:
        assert self._farewell is not None
        if self._farewell["type"] == "failed":
            return True
        return not self._processes and self._has_left(MAIN)

    # --- another key -----------------------------------------------------------------------------

    def _renew_at(self) -> Optional[float]:
        """Return when to look for another key."""
        if self._renew is None:
            return None
        return self._looked_at + (RENEW_AWAY_SECONDS if self._endpoint.away else RENEW_SECONDS)

    def _look_for_key(self, now: float) -> None:
        due = self._renew_at()
        if self._renew is None or due is None or now < due:
            return
        key = self._renew()
        self._looked_at = self._clock()
        if key is not None:
            self._begin_anew(key, self._looked_at)

    def _begin_anew(self, key: bytes, now: float) -> None:
        """Go on with the main process in a new session; what else runs ends with the old one."""
        log.info("another key: a new session begins")
        self._endpoint = self._endpoint.succeed(key, nonce=os.urandom(NONCE_BYTES), now=now)
        self._line.succeed(self._endpoint)
        for number, relayed in list(self._processes.items()):
            if number != MAIN:
                del self._processes[number]
                relayed.abandon()
        self._opened.clear()
        self._draining.clear()
        self._leaving.clear()
        self._farewell_said = False
        if self._main is not None:
            self._main.move(self._endpoint)
        for companion in self._companions:
            companion.repeat()

    # --- one turn of the loop --------------------------------------------------------------------

    def _turn(self, wake_at: Optional[float]) -> None:
        self._watch_line()
        self._poller.wait(self._wait_seconds(wake_at))
        now = self._clock()
        for event in self._line.receive(now):
            self._handle(event)
        for process in self._fed:
            process.flush()
        self._fed.clear()
        self._let_timers_run(now)
        self._look_for_key(now)
        self._line.send(now)
        if self._leaving:
            self._report_ends()
            self._line.send(now)

    def _wait_seconds(self, wake_at: Optional[float]) -> float:
        if self._line.has_more:
            return 0.0
        drain_at = self._draining[0][0] if self._draining else None
        times = [wake_at, self._kill_at, drain_at, self._renew_at(), self._line.deadline()]
        due = [at for at in (*times, *(c.due() for c in self._companions)) if at is not None]
        wait = min(due, default=math.inf) - self._clock()
        return min(MAX_WAIT_SECONDS, max(MIN_WAIT_SECONDS, wait))

    def _watch_line(self) -> None:
        """Follow the line's descriptors: a socket has another one after each connection."""
        if self._line.descriptors is self._line_descriptors:
            return  # the same tuple: equal numbers might be another connection's
        for descriptor in self._line_descriptors:
            self._poller.watch(descriptor, 0, _nothing)
        self._line.close_old()
        self._line_descriptors = self._line.descriptors
        for descriptor in self._line_descriptors:
            # Edges only: an unconnected virtio port would otherwise report HUP without end.
            mask = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
            self._poller.watch(descriptor, mask, _nothing)

    def _let_timers_run(self, now: float) -> None:
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._kill()
        while self._draining and now >= self._draining[0][0]:
            self._draining.popleft()[1].cut_off()
        for companion in self._companions:
            companion.tick(now)

    # --- processes -------------------------------------------------------------------------------

    def _add(self, number: int, launch: Launch) -> Relayed:
        relayed = Relayed(number, launch, self._endpoint, self._poller, on_over=self._bury)
        relayed.kills_before = self._kills()
        self._processes[number] = self._children[launch.pid] = relayed
        return relayed

    def _start_other(self, number: int, message: Mapping[str, object]) -> None:
        if number not in self._opened:
            return  # its number is in use, or its streams were never opened
        self._opened.discard(number)
        try:
            if self._start is None or self._main is None or not self._main.runs:
                raise StartError("world", "the main process does not run")
            self._add(number, self._start(message))
        except StartError as error:
            for which in (STDOUT, STDERR):
                self._endpoint.finish(stream_of(number, which))
            self._endpoint.control(describe_failure(number, error))

    def _bury(self, relayed: Relayed) -> None:
        """Take leave of a process, all of whose output the endpoint has accepted."""
        if relayed.failure is None and relayed is not self._main:  # which comes last
            self._leaving.append(relayed)
            return
        del self._processes[relayed.number]
        if relayed.failure is not None and relayed is not self._main:
            self._endpoint.control(describe_failure(relayed.number, relayed.failure))

    def _report_ends(self) -> None:
        """Report how processes ended whose output has left, so that it arrives before."""
        for relayed in [r for r in self._leaving if self._has_left(r.number)]:
            self._leaving.remove(relayed)
            del self._processes[relayed.number]
            assert relayed.status is not None
            oom = self._kills() > relayed.kills_before
            message = describe_exit(relayed.status, out_of_memory=oom)
            self._endpoint.control({**message, "process": relayed.number})

    def _has_left(self, number: int) -> bool:
        streams = (stream_of(number, which) for which in (STDOUT, STDERR))
        return all(self._endpoint.has_left(stream) for stream in streams)

    # --- the host's wishes -----------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if isinstance(event, Data):
            process = self._processes.get(process_of(event.stream))
            if process is None:
                self._endpoint.consumed(event.stream, len(event.data))
            else:
                process.receive(event.data)
                self._fed.add(process)
        elif isinstance(event, Writable):
            process = self._processes.get(process_of(event.stream))
            if process is not None:
                process.writable(event.stream)
        elif isinstance(event, Finished):
            process = self._processes.get(process_of(event.stream))
            if process is not None:
                process.finish_input()
                self._fed.add(process)
        elif isinstance(event, Control):
            self._obey(event.message)
        elif isinstance(event, Opened):
            self._opened.add(event.process)
        elif isinstance(event, Closed):
            self._opened.discard(event.process)

    def _obey(self, message: Mapping[str, object]) -> None:
        """Carry out a control message. One that we do not know or that is malformed is ignored."""
        kind = message.get("type")
        number = int(number_in(message, "process")) if "process" in message else MAIN
        process = self._processes.get(number)
        if kind in ("exec", "copy-in", "copy-out"):
            self._start_other(number, message)
        elif kind == "resize" and process is not None:
            rows, columns = number_in(message, "rows"), number_in(message, "cols")
            if 0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF:
                process.resize(int(rows), int(columns))
        elif kind == "signal" and process is not None:
            wanted = int(number_in(message, "signal"))
            if 1 <= wanted <= signal.SIGRTMAX:
                process.signal(wanted)
        elif kind == "stop":
            self._stop(self._seconds_to_stop(message.get("timeout_seconds")))
        elif kind == "power-off":
            self._hurried = True
            self._kill()

    def _seconds_to_stop(self, asked: object) -> float:
        """Return what a request says, the run's own time if it says nothing, -1 for ever."""
        if asked == -1 and not isinstance(asked, bool):
            return math.inf
        seconds = number_in({"seconds": asked}, "seconds")
        return seconds if seconds >= 0 else self._stop_seconds

    def _stop(self, seconds: float) -> None:
        if self._main is not None and self._main.status is None:
            self._main.signal(self._stop_signal)
            self._kill_at = self._clock() + seconds

    def _kill(self) -> None:
        if self._main is not None:
            self._main.signal(signal.SIGKILL)

    # --- signals and children --------------------------------------------------------------------

    def _take_signals(self, _mask: int) -> None:
        try:
            numbers = self._wake_reader.recv(4096)
        except BlockingIOError:
            return
        if signal.SIGCHLD in numbers:
            self._reap()
        if any(number in numbers for number in STOP_REQUESTS):
            self._stop(self._stop_seconds)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            relayed = self._children.pop(pid, None)
            if relayed is None:  # a companion's, or an orphan
                any(companion.take_end(pid, status) for companion in self._companions)
                continue
            relayed.end(status)
            if relayed is self._main:
                self._end()
            # Its death may be seen before the report of its start, which brings the outputs.
            if not relayed.is_over and relayed is not self._main:
                self._draining.append((self._clock() + DRAIN_SECONDS, relayed))


def _only_wake(_number: int, _frame: Optional[FrameType]) -> None:
    """Do nothing: the wakeup descriptor has the signal already."""


def _nothing(_mask: int) -> None:
    """Do nothing: the line is looked at on every turn."""


def _nothing_left() -> None:
    """Do nothing: the kernel has killed the rest of the main process's PID namespace."""


def _no_kills() -> int:
    return 0
