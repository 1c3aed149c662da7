"""The running guest: one loop over the line to the host, all processes' stdio, and signals.

Owns the loop, what the host asks for, reaping, and the end. One thread, one epoll, one place that
waits for children: SIGCHLD wakes the loop and waitpid(-1) collects the processes and any orphan
alike, so no status can be taken by somebody else. When the main process has ended, the kernel has
killed the rest of its PID namespace. Is it not started again (`life` knows), what else ran there is
reported first, the main process last, and the machine may be switched off when the host has
acknowledged that, or is not there.
"""

from __future__ import annotations

import math
import os
import select
import time

from agent import bare_signal as signal
from agent.bare_tools import ExitStack, partial
from agent.hints import TYPE_CHECKING, Callable, Dict, List, Mapping, Optional, Set, Tuple, Union
from agent.tether import log
from agent.tether.companion import Companion
from agent.tether.errors import StartError
from agent.tether.life import MainLife
from agent.tether.line import Line
from agent.tether.messages import MAIN, describe_failure, number_in, seconds_in
from agent.tether.others import Others, Starter, has_left
from agent.tether.poller import Poller
from agent.tether.process import Launch
from agent.tether.relayed import Relayed
from agent.tether.restart import RestartPolicy
from agent.tether.wakeup import Wakeup
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

if TYPE_CHECKING:
    from agent.tether.probes import HealthMonitor, Probe

LINGER_SECONDS = 10.0  # how long a machine whose work is done waits for an absent host
# A timer that is due again at once, on a line that takes nothing, must not become a busy loop.
MIN_WAIT_SECONDS = 0.005
MAX_WAIT_SECONDS = 600.0  # epoll counts milliseconds in 32 bits

STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGPWR)  # SIGINT is Ctrl-Alt-Del

# How often a new key is looked for: a host that is not there may have lost the old one.
RENEW_AWAY_SECONDS = 2.0
RENEW_SECONDS = 10.0
# Or as much later at most: a turn of the loop that comes anyway is soon enough.
RENEW_SLACK = 0.5
NONCE_BYTES = 32


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
        self._poller = Poller()
        self._processes: Dict[int, Relayed] = {}  # by number, until they are over
        # By pid, until they are collected.
        self._children: Dict[int, Union[Relayed, Probe]] = {}
        self._others = Others(self._processes, self._endpoint, self._poller, clock=clock)
        self._companions: List[Companion] = []
        # By types of control messages that are not the loop's own matter.
        self._listeners: Dict[str, List[Callable[[Mapping[str, object]], None]]] = {}
        self._fed: Set[Relayed] = set()  # got something for their stdin in this turn
        self._life: Optional[MainLife] = None
        self._input_ended = False  # the main process's, for whichever comes
        self._start: Optional[Starter] = None
        self._farewell: Optional[Dict[str, object]] = None  # the last message, when it is known
        self._farewell_said = False
        self._hurried = False
        self._line_descriptors: Tuple[int, ...] = ()
        self._wakeup = Wakeup((signal.SIGCHLD, *STOP_REQUESTS))
        self._stack = ExitStack()

    def __enter__(self) -> Supervisor:
        self._stack.callback(self._poller.close)
        self._stack.enter_context(self._wakeup)
        self._poller.watch(self._wakeup.descriptor, select.EPOLLIN, self._take_signals)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def accompany(self, companion: Companion) -> None:
        """Serve a companion in the loop from now on."""
        self._companions.append(companion)
        companion.attach(self._poller, self.tell)

    def listen(self, kind: str, take: Callable[[Mapping[str, object]], None]) -> None:
        """Hand the host's control messages of a further kind to `take`, as to others before."""
        self._listeners.setdefault(kind, []).append(take)

    def report_failure(self, failure: StartError) -> None:
        """Tell the host that there is no process; return when it knows or is not there."""
        self._say_farewell("the process was not started", describe_failure(MAIN, failure))

    def supervise(
        self,
        launch: Launch,
        *,
        stop_signal: Optional[int] = None,
        oom_kills: Callable[[], int],
        start: Optional[Starter] = None,
        stop_seconds: Optional[int] = None,
        end: Optional[Callable[[], None]] = None,
        policy: Optional[RestartPolicy] = None,
        again: Optional[Callable[[], Launch]] = None,
        health: Optional[Callable[..., HealthMonitor]] = None,
    ) -> None:
        """Relay for a process and whatever is started beside it until the host knows its end.

        `start` starts others; `end` kills what is left when the main process has ended, for without
        a PID namespace of its own the kernel does not. `again` starts the main process anew where
        `policy` says so; `health` makes what checks its health. The rest is for MainLife.
        Raises agent.wire.ProtocolError when the host holds the key and breaks the protocol: there
        is nobody left to serve then, and the process goes on until the caller ends it.
        """
        self._start, self._others.kills = start, oom_kills
        for which in (STDOUT, STDERR):
            self._endpoint.keep_newest(stream_of(MAIN, which))
        life = self._life = MainLife(
            clock=self._clock,
            stop_signal=stop_signal,
            stop_seconds=stop_seconds,
            policy=policy or RestartPolicy(),
            oom_kills=oom_kills,
            kill_all=end or _nothing_left,
        )
        if health is not None and start is not None:
            life.health = health(
                start=start,
                add=self._add_child,
                poller=self._poller,
                clock=self._clock,
                is_ending=lambda: life.is_ending,
            )
        self._begin(life, launch)
        self._reap()  # its SIGCHLD may have come before our handler
        failure: Optional[StartError] = None
        while not life.over and failure is None:
            self._turn(None)
            if life.is_due(self._clock(), heard=not self._endpoint.away):
                assert again is not None, "a policy that restarts needs a way to"
                try:
                    self._begin(life, again())
                except StartError as error:
                    failure = error
        assert life.process is not None
        life.tell(self.tell)
        for which in (STDOUT, STDERR):
            self._endpoint.finish(stream_of(MAIN, which))
        failure = failure or life.process.failure
        if failure is not None:
            self.report_failure(failure)
        else:
            assert life.end is not None
            self._say_farewell("the process ended with code {}".format(life.end["code"]), life.end)

    def _begin(self, life: MainLife, launch: Launch) -> None:
        """Relay for the main process, the first one or another."""
        process = self._processes[MAIN] = Relayed(
            MAIN,
            launch,
            self._endpoint,
            self._poller,
            on_start=lambda _: life.started(),
            on_over=partial(self._end_life, life),
            keeps_streams=True,
        )
        self._add_child(process)
        life.begin(process)
        if self._input_ended:
            process.finish_input()

    def _end_life(self, life: MainLife, process: Relayed) -> None:
        del self._processes[process.number]
        life.ended()

    def _add_child(self, child: Union[Relayed, Probe]) -> None:
        self._children[child.pid] = child

    def _say_farewell(self, what: str, message: Dict[str, object]) -> None:
        """Wait until the host has everything, `message` last; for an absent one only so long."""
        gone_at: Optional[float] = None
        self._farewell = message
        self._line.send(self._clock())  # first, for the report may take a while
        if self._report is not None:
            self._report(message)
        while True:
            if not self._farewell_said and self._may_say_farewell():
                # It waits for room where so much waits already that nobody has taken.
                self._farewell_said = self.tell(message)
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
        return not self._processes and has_left(self._endpoint, MAIN)

    # --- another key -----------------------------------------------------------------------------

    def _renew_at(self, times: float = 1.0) -> Optional[float]:
        """Return when to look for another key, or `times` as long after the last look."""
        if self._renew is None:
            return None
        seconds = RENEW_AWAY_SECONDS if self._endpoint.away else RENEW_SECONDS
        return self._looked_at + seconds * times

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
        self._others.abandon(self._endpoint)
        self._farewell_said = False
        if self._life is not None and self._life.process is not None:
            self._life.process.move(self._endpoint)
            self._life.tell_again()
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
        self._tell_of_life()
        self._line.send(now)
        if self._others.report_ends():
            self._line.send(now)

    def _wait_seconds(self, wake_at: Optional[float]) -> float:
        if self._line.has_more:
            return 0.0
        times = [wake_at, self._others.deadline(), self._line.deadline()]
        times.append(self._renew_at(1 + RENEW_SLACK))
        if self._life is not None:
            times.append(self._life.deadline(heard=not self._endpoint.away))
        times += [companion.due() for companion in self._companions]
        due = [time for time in times if time is not None]
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
        if self._life is not None:
            self._life.tick(now)
        self._others.tick(now)
        for companion in self._companions:
            companion.tick(now)

    # --- what the host is told -------------------------------------------------------------------

    def tell(self, message: Mapping[str, object]) -> bool:
        """Have the host told, now or when it comes; return whether there was room for that."""
        try:
            self._endpoint.control(dict(message))
        except ControlFullError:
            return False
        return True

    def _tell_of_life(self) -> None:
        """Tell a host that is there what it does not know, an end after the last output."""
        life = self._life
        if life is None or self._endpoint.away:
            return
        streams = (stream_of(MAIN, which) for which in (STDOUT, STDERR))
        if not life.is_waiting or all(self._endpoint.has_sent(stream) for stream in streams):
            life.tell(self.tell)

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
            self._input_ended = self._input_ended or process_of(event.stream) == MAIN
            process = self._processes.get(process_of(event.stream))
            if process is not None:
                process.finish_input()
                self._fed.add(process)
        elif isinstance(event, Control):
            self._obey(event.message)
        elif isinstance(event, Opened):
            self._others.open(event.process)
        elif isinstance(event, Closed):
            self._others.close(event.process)

    def _obey(self, message: Mapping[str, object]) -> None:
        """Carry out a control message. One that we do not know or that is malformed is ignored."""
        kind, life = message.get("type"), self._life
        number = int(number_in(message, "process")) if "process" in message else MAIN
        process = self._processes.get(number)
        wanted = int(number_in(message, "signal"))
        wanted = wanted if 1 <= wanted <= signal.SIGRTMAX else 0
        if kind in ("exec", "copy-in", "copy-out"):
            runs = life is not None and life.runs
            started = self._others.start(number, message, self._start if runs else None)
            if started is not None:
                self._add_child(started)
        elif kind == "resize" and process is not None:
            rows, columns = number_in(message, "rows"), number_in(message, "cols")
            if 0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF:
                process.resize(int(rows), int(columns))
        elif kind == "signal" and wanted:
            if number == MAIN and life is not None:
                life.signal(wanted)
            elif process is not None:
                process.signal(wanted)
        elif kind == "stop" and life is not None:
            life.stop(seconds_in(message), wanted or None)
        elif kind == "power-off" and life is not None:
            self._hurried = True
            life.kill()
        for take in self._listeners.get(str(kind), ()):
            take(message)

    def stop(self) -> None:
        """End the main process for good, as a wish of the machine's own."""
        if self._life is not None:
            self._life.stop()

    def restart(self) -> bool:
        """End the main process and start it again, as a wish of the machine's; say whether so."""
        return self._life is not None and self._life.restart()

    # --- signals and children --------------------------------------------------------------------

    def _take_signals(self, _mask: int) -> None:
        numbers = self._wakeup.take()
        if signal.SIGCHLD in numbers:
            self._reap()
        if any(number in numbers for number in STOP_REQUESTS):
            self.stop()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is None:  # a companion's, or an orphan
                any(companion.take_end(pid, status) for companion in self._companions)
            elif self._life is not None and child is self._life.process:
                self._life.died()
                child.end(status)
            else:
                child.end(status)
                if isinstance(child, Relayed):
                    self._others.died(child)


def _nothing(_mask: int) -> None:
    """Do nothing: the line is looked at on every turn."""


def _nothing_left() -> None:
    """Do nothing: the kernel has killed the rest of the main process's PID namespace."""
