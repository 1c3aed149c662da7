"""Running health checks beside the main process, one at a time, and telling the host.

Owns when one runs, its output and its end by force; what the results mean is `health`'s matter. A
check is a process like an exec's, but its output goes nowhere: the first bytes are kept. Waits for
nothing: the supervisor's loop calls it.
"""

from __future__ import annotations

import binascii
import os
import select
import time

from agent import bare_signal as signal
from agent.bare_tools import deque, suppress
from agent.hints import Callable, Deque, Dict, List, Mapping, Optional
from agent.tether.companion import Tell
from agent.tether.errors import StartError
from agent.tether.fields import Arguments
from agent.tether.health import (
    LOG_ENTRIES,
    NOT_RUN,
    OUTPUT_BYTES,
    SECOND_NS,
    TIMEOUT_NS,
    Health,
    HealthCheck,
    describe_timeout,
    shorten,
)
from agent.tether.messages import exit_code
from agent.tether.poller import Poller
from agent.tether.process import Launch, Process

# A check's own time counts from when it runs, as docker's; one that never gets there is ended, too.
START_SECONDS = 30.0
_READ_BYTES = 65536


class Probe:
    """One run of the check. `on_over` is called once, with its exit code and output."""

    def __init__(
        self, launch: Launch, poller: Poller, *, on_over: Callable[[int, bytes], None]
    ) -> None:
        self.pid = launch.pid
        self.runs = False
        self._launch: Optional[Launch] = launch
        self._poller = poller
        self._on_over = on_over
        self._status: Optional[int] = None
        self._failure: Optional[StartError] = None
        self._outputs: List[int] = []
        self._kept = b""
        self._more = False
        self._overdue_ns = 0  # the time that it was given, once it was killed for it
        poller.watch(launch.descriptor, select.EPOLLIN, self._take_report)

    def end(self, status: int) -> None:
        """Learn from the one place that waits how it ended."""
        self._status = status
        self._finish_if_over()

    def kill(self, timeout_ns: int) -> None:
        """End it, and what it has started in its own session: `timeout_ns` are over."""
        self._overdue_ns = timeout_ns
        if self._status is None:
            for kill in (os.killpg, os.kill):  # a group it has only once it leads a session
                with suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill it and tell nobody."""
        self._on_over = _nothing
        self.kill(0)
        if self._launch is not None:
            self._poller.watch(self._launch.descriptor, 0, self._take_report)
            self._launch.abandon()
            self._launch = None
        self._let_go()

    def _take_report(self, _mask: int) -> None:
        launch = self._launch
        if launch is None:
            return
        process: Optional[Process] = None
        try:
            process = launch.poll()
            if process is None:
                return
        except StartError as error:
            self._failure = error
        self._forget_launch()
        if process is not None:
            self.runs = True
            for descriptor in (process.stdout, process.stderr):
                if descriptor is not None:
                    os.set_blocking(descriptor, False)
                    self._outputs.append(descriptor)
                    self._poller.watch(descriptor, select.EPOLLIN, self._read)
        self._finish_if_over()

    def _forget_launch(self) -> None:
        if self._launch is not None:
            self._poller.watch(self._launch.descriptor, 0, self._take_report)
            self._launch.close()
            self._launch = None

    def _read(self, _mask: int) -> None:
        """Read once what has come on each output, for it may pour."""
        for descriptor in list(self._outputs):
            try:
                data = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                self._close(descriptor)
            room = OUTPUT_BYTES - len(self._kept)
            self._kept += data[:room]
            self._more = self._more or len(data) > room

    def _close(self, descriptor: int) -> None:
        self._outputs.remove(descriptor)
        self._poller.watch(descriptor, 0, self._read)
        os.close(descriptor)

    def _let_go(self) -> None:
        for descriptor in list(self._outputs):
            self._close(descriptor)

    def _finish_if_over(self) -> None:
        """Report it; whom it has left running, with its outputs open, is not waited for."""
        # Its death may be seen before the report of its start, which brings the outputs.
        if self._status is None or self._launch is not None:
            return
        self._read(0)
        self._let_go()
        on_over, self._on_over = self._on_over, _nothing
        output = shorten(self._kept, more=self._more)
        if self._overdue_ns:
            on_over(NOT_RUN, describe_timeout(self._overdue_ns, output))
        elif self._failure is not None:
            on_over(NOT_RUN, _sentence(self._failure))
        else:
            on_over(exit_code(self._status), output)


class HealthMonitor:
    """The health of the main process: checks while it runs, and messages to the host.

    `command` is what a check executes, and `start` starts it; `add` has the one that waits for
    children call `Probe.end`. `is_ending` says whether the main process is about to be gone: its
    checks end with it, or find no world to start in, and that says nothing of its health.
    """

    def __init__(
        self,
        check: HealthCheck,
        command: Arguments,
        *,
        start: Callable[[Mapping[str, object]], Launch],
        add: Callable[[Probe], None],
        poller: Poller,
        clock: Callable[[], float],
        is_ending: Callable[[], bool],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._health = Health(check)
        self._timeout_ns = check.timeout_ns or TIMEOUT_NS
        self._request = {"type": "exec", "args": list(command)}
        self._start = start
        self._add = add
        self._poller = poller
        self._clock = clock
        self._is_ending = is_ending
        self._wall_ns = wall_ns
        self._check_at: Optional[float] = None
        self._kill_at: Optional[float] = None
        self._probe: Optional[Probe] = None
        self._own_time = False  # of the check, which counts
        self._began = 0.0
        self._began_ns = 0
        self._log: Deque[Dict[str, object]] = deque(maxlen=LOG_ENTRIES)
        self._untold: Deque[Dict[str, object]] = deque(maxlen=LOG_ENTRIES + 1)

    def begin(self) -> None:
        """Learn that the main process runs, for the first time or again."""
        self._check_at = self._health.begin(self._clock())
        self._untold.append(self._message(None))

    def stop(self) -> None:
        """Learn that the main process has ended: its health stays what it was."""
        self._check_at = self._kill_at = None
        if self._probe is not None:
            self._probe.abandon()
            self._probe = None

    def tell_again(self) -> None:
        """Tell all that is known to a host that knows nothing."""
        self._untold.clear()
        self._untold.extend([*self._log, self._message(None)])

    def deadline(self) -> Optional[float]:
        """Return when `tick` is to be called though nothing has happened."""
        return self._check_at if self._probe is None else self._kill_at

    def tick(self, now: float) -> None:
        """Begin a check that is due, end one that is overdue."""
        probe = self._probe
        if probe is None:
            if self._check_at is not None and now >= self._check_at:
                self._begin_check(now)
        elif probe.runs and not self._own_time:
            self._own_time = True
            self._kill_at = now + self._timeout_ns / SECOND_NS
        elif self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            probe.kill(self._timeout_ns)

    def tell(self, say: Tell) -> None:
        """Tell what has not been told, until `say` cannot."""
        while self._untold and say(self._untold[0]):
            self._untold.popleft()

    def _begin_check(self, now: float) -> None:
        self._began, self._began_ns = now, self._wall_ns()
        self._check_at = None
        try:
            launch = self._start(self._request)
        except StartError as error:
            self._take(NOT_RUN, _sentence(error))
            return
        self._own_time = False
        self._kill_at = now + START_SECONDS
        self._probe = Probe(launch, self._poller, on_over=self._end_check)
        self._add(self._probe)

    def _end_check(self, code: int, output: bytes) -> None:
        self._probe = self._kill_at = None
        self._take(code, output)

    def _take(self, code: int, output: bytes) -> None:
        if code and self._is_ending():
            return
        self._health.take(code, self._began)
        self._check_at = self._health.next_check(self._clock())
        message = self._message(
            {
                "start_ns": self._began_ns,
                "end_ns": self._wall_ns(),
                "code": code,
                "output": binascii.b2a_base64(output, newline=False).decode("ascii"),
            }
        )
        self._log.append(message)
        self._untold.append(message)

    def _message(self, result: Optional[Dict[str, object]]) -> Dict[str, object]:
        health = self._health
        message: Dict[str, object] = {"type": "health", "status": health.status}
        return {**message, "streak": health.failing_streak, "result": result}


def _sentence(error: StartError) -> bytes:
    return shorten(error.message.encode("utf-8", "replace"), more=False)


def _nothing(_code: int, _output: bytes) -> None:
    """Stand for a callback that has been called, or is not wanted any more."""
