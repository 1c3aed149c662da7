"""The main process from its first start to its last end: stopped, killed, started again.

Owns what a wish to stop means, the wait before another start, and what the host is told of both.
Knows no descriptor: the supervisor's loop calls it and starts what it says is due. What it has to
tell waits until the host is there, and is never more than how things stand: a process that comes
and goes for days without a host must not fill the line.
"""

from __future__ import annotations

import math

from agent import bare_signal as signal
from agent.hints import TYPE_CHECKING, Callable, Dict, List, Optional
from agent.tether.companion import Tell
from agent.tether.messages import MAIN, describe_exit, exit_code
from agent.tether.process import is_ending
from agent.tether.relayed import Relayed
from agent.tether.restart import RestartPolicy, Restarts

if TYPE_CHECKING:
    from agent.tether.probes import HealthMonitor

STOP_SECONDS = 10.0  # Docker's default between the stop signal and SIGKILL
STOP_SIGNAL = int(signal.SIGTERM)

Message = Dict[str, object]


class MainLife:
    """The main process. It is `over` when it has ended and will not be started again.

    `stop_signal` is None where neither the image nor the run names one. `stop_seconds` are between
    the stop signal and SIGKILL where the wish to stop has none of its own; -1 waits for ever.
    `oom_kills` counts the processes that were killed for want of memory in this run, `kill_all`
    kills what is left of it.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        stop_signal: Optional[int] = None,
        stop_seconds: Optional[int] = None,
        policy: RestartPolicy,
        oom_kills: Callable[[], int],
        kill_all: Callable[[], None],
    ) -> None:
        self.over = False
        self.end: Optional[Message] = None  # how it ended the last time, as "exited" says it
        self.process: Optional[Relayed] = None  # the last one, which may have ended
        self.health: Optional[HealthMonitor] = None
        self._clock = clock
        self._stop_signal = stop_signal
        self._stop_seconds = STOP_SECONDS
        if stop_seconds is not None:
            self._stop_seconds = stop_seconds if stop_seconds >= 0 else math.inf
        self._oom_kills = oom_kills
        self._kill_all = kill_all
        self._restarts = Restarts(policy)
        self._began = 0.0
        self._kill_at: Optional[float] = None
        self._again_at: Optional[float] = None
        self._delay = 0.0
        self._untold: List[Message] = []

    @property
    def runs(self) -> bool:
        """Whether it has executed its program and not ended."""
        return self.process is not None and self.process.runs

    @property
    def is_ending(self) -> bool:
        """Whether it has ended, or is about to, which nobody has been told yet."""
        return self.process is None or is_ending(self.process.pid)

    # --- what happens to it ----------------------------------------------------------------------

    def begin(self, process: Relayed) -> None:
        """Learn that it is being started."""
        self.process = process
        self._began = self._clock()
        self._again_at = None

    def started(self) -> None:
        """Learn that it runs its program."""
        self._untold.extend(self._news_of_start())
        if self.health is not None:
            self.health.begin()

    def died(self) -> None:
        """Learn that it has been collected; what it wrote may still come."""
        self._kill_at = None
        if self.health is not None:
            self.health.stop()
        self._kill_all()

    def ended(self) -> None:
        """Learn that all of it is over, its output as well: another one is due, or none."""
        process = self.process
        assert process is not None
        if process.failure is not None:
            self.over = True
            return
        assert process.status is not None
        self.end = describe_exit(process.status, out_of_memory=self._oom_kills() > 0)
        ran_seconds = self._clock() - self._began
        delay = self._restarts.delay_after(exit_code(process.status), ran_seconds)
        if delay is None:
            self.over = True
            return
        self._delay = delay
        self._again_at = self._clock() + delay
        self._untold = self._news_of_end()

    # --- what the user wants ---------------------------------------------------------------------

    def stop(self, seconds: Optional[float] = None, number: Optional[int] = None) -> None:
        """End it for good: the stop signal, or `number`, and SIGKILL to all after `seconds`."""
        self._restarts.stop()
        if not self._forget_restart():
            self._end_in_order(seconds, number)

    def restart(self) -> bool:
        """End it as `stop` does, and start it again; return False when it ends for good already."""
        if self.over or self._restarts.is_over:
            return False
        if self._again_at is not None:
            self._again_at = self._clock()
        else:
            self._restarts.want()
            self._end_in_order()
        return True

    def kill(self) -> None:
        """End it for good, and all that runs beside it."""
        self._restarts.stop()
        if not self._forget_restart():
            self._end_now()

    def _end_in_order(self, seconds: Optional[float] = None, number: Optional[int] = None) -> None:
        if self.process is not None and self.process.status is None:
            self.process.signal(number or self._stop_signal or STOP_SIGNAL)
            self._kill_at = self._clock() + (self._stop_seconds if seconds is None else seconds)

    def _end_now(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGKILL)
            self._kill_all()

    def signal(self, number: int) -> None:
        """Send it a signal of the user's, which may be a wish to end it."""
        self._restarts.note_signal(number, self._stop_signal)
        if not (self._restarts.is_over and self._forget_restart()) and self.process is not None:
            self.process.signal(number)

    def _forget_restart(self) -> bool:
        """Let the last end have been the last; return False when no start was waited for."""
        if self._again_at is None:
            return False
        self._again_at = None
        self.over = True
        return True

    # --- time ------------------------------------------------------------------------------------

    def deadline(self, *, heard: bool) -> Optional[float]:
        """Return when a timer is due. A host that hears us must know the end before the start."""
        health_at = None if self.health is None else self.health.deadline()
        again_at = None if heard and self._untold else self._again_at
        times = (self._kill_at, again_at, health_at)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Let the timers run."""
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._end_now()
        if self.health is not None:
            self.health.tick(now)

    def is_due(self, now: float, *, heard: bool) -> bool:
        """Return whether it is to be started again now; a host that hears us knows its end."""
        if self._again_at is None or (heard and self._untold):
            return False
        return now >= self._again_at

    @property
    def is_waiting(self) -> bool:
        """Whether it has ended and is to be started again."""
        return self._again_at is not None

    # --- what the host is told -------------------------------------------------------------------

    def tell(self, say: Tell) -> None:
        """Tell what has not been told, until `say` cannot."""
        while self._untold and say(self._untold[0]):
            del self._untold[0]
        if self.health is not None:
            self.health.tell(say)

    def tell_again(self) -> None:
        """Have all that is so told to a host that knows nothing."""
        self._untold = self._news_of_end() if self._restarts.count else []
        if self.runs:
            self._untold += self._news_of_start()
        if self.health is not None:
            self.health.tell_again()

    def _news_of_start(self) -> List[Message]:
        assert self.process is not None
        return [{"type": "started", "process": MAIN, "pid": self.process.pid}]

    def _news_of_end(self) -> List[Message]:
        told = {"type": "restarting", "count": self._restarts.count}
        return [{**(self.end or {}), **told, "delay_ms": round(1000 * self._delay)}]
