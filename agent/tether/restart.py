"""Whether the main process is started again when it has ended, and when: docker run --restart.

Pure: times are arguments. The rules are moby's (restartmanager, `ShouldRestart`; daemon/kill.go for
what a signal of the user's means), so that a policy does here what it does there.
"""

from __future__ import annotations

from agent import bare_signal as signal
from agent.hints import Optional
from agent.values import dataclass

NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE = "no", "always", "unless-stopped", "on-failure"
POLICIES = (NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE)

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 60.0
GOOD_RUN_SECONDS = 10.0  # who ran so long begins with the first delay again


@dataclass(frozen=True)
class RestartPolicy:
    """One of POLICIES; `retries` is for on-failure, 0 for as many as it takes."""

    name: str = NO
    retries: int = 0

    @property
    def restarts(self) -> bool:
        """Whether the process may be started again at all."""
        return self.name != NO


NEVER = RestartPolicy()


class Restarts:
    """The restarts of one boot: what has happened, and what the policy makes of it."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.count = 0
        self._delay = 0.0
        self._is_over = False  # the next end is the last
        self._is_wanted = False  # another start, at the next end, whatever the policy
        self._was_signalled = False  # by the user, whatever for

    def delay_after(self, code: int, ran_seconds: float) -> Optional[float]:
        """Return how long to wait before the next start; None when there is none.

        `code` is the process's exit code as a shell has it, `ran_seconds` how long it ran. Counts
        the restart.
        """
        if self._is_over:
            return None
        if self._is_wanted:
            self._is_wanted = False
            self._delay = 0.0
            self.count += 1
            return self._delay
        if not self._wants_another(code):
            return None
        if ran_seconds >= GOOD_RUN_SECONDS:
            self._delay = 0.0
        self._delay = min(LONGEST_DELAY_SECONDS, 2 * self._delay or FIRST_DELAY_SECONDS)
        self.count += 1
        return self._delay

    def _wants_another(self, code: int) -> bool:
        name, retries = self.policy.name, self.policy.retries
        if name == UNLESS_STOPPED:
            return not self._was_signalled
        if name == ON_FAILURE:
            return code != 0 and (not retries or self.count < retries)
        return name == ALWAYS

    def want(self) -> None:
        """Learn that the user wants it to end and to be started again, whatever the policy."""
        self._is_wanted = True

    def stop(self) -> None:
        """Learn that the user wants it to end."""
        self._is_over = True

    def note_signal(self, number: int, own_stop_signal: Optional[int]) -> None:
        """Learn that the user sends a signal.

        It is a wish to end when it is SIGKILL, or the stop signal that the image or the run names,
        or when they name none (`own_stop_signal` None). Any other one ends unless-stopped alone.
        """
        self._was_signalled = True
        if own_stop_signal is None or number in (signal.SIGKILL, own_stop_signal):
            self._is_over = True

    @property
    def is_over(self) -> bool:
        """Whether the next end, or this one, is the last."""
        return self._is_over
