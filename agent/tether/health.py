"""Health checks: what an image or a run asks for, and what the results mean, as docker has it.

Owns HealthCheck, its reading and merging, and the states of one machine's health. Pure: times
are arguments, and who runs the check is `probes`' matter. The rules are moby's daemon/health.go.
"""

from __future__ import annotations

from agent.hints import Optional, Tuple
from agent.tether import fields
from agent.tether.fields import Arguments
from agent.values import dataclass

NONE, COMMAND, SHELL_COMMAND = "NONE", "CMD", "CMD-SHELL"
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"

SECOND_NS = 10**9
# What a check that says nothing of it has.
INTERVAL_NS = 30 * SECOND_NS
TIMEOUT_NS = 30 * SECOND_NS
START_INTERVAL_NS = 5 * SECOND_NS
RETRIES = 3

LEAST_NS = 10**6
MOST_NS = (1 << 63) - 1
LOG_ENTRIES = 5
OUTPUT_BYTES = 4096
CUT_SHORT = b"..."
NOT_RUN = -1  # the exit code of a check that has none

_DEFAULT_SHELL = ("/bin/sh", "-c")
# The members in a document of ours and in an image's configuration, in the order of the fields.
OUR_NAMES = ("test", "interval_ns", "timeout_ns", "start_period_ns", "start_interval_ns", "retries")
IMAGE_NAMES = ("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")


@dataclass(frozen=True)
class HealthCheck:
    """A check; what is empty or 0 is as the image says, or else the default.

    `test` is ("NONE",), ("CMD", ARGUMENT...) or ("CMD-SHELL", COMMAND). Times are nanoseconds.
    """

    test: Arguments = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

    def over(self, image: HealthCheck) -> HealthCheck:
        """Return this check with what it does not say as the image's."""
        return HealthCheck(
            self.test or image.test,
            self.interval_ns or image.interval_ns,
            self.timeout_ns or image.timeout_ns,
            self.start_period_ns or image.start_period_ns,
            self.start_interval_ns or image.start_interval_ns,
            self.retries or image.retries,
        )

    def command(self, shell: Arguments = ()) -> Optional[Arguments]:
        """Return what to execute, None when nothing is to be checked; `shell` is the image's."""
        kind, arguments = self.test[:1], self.test[1:]
        if kind == (COMMAND,) and arguments:
            return arguments
        if kind == (SHELL_COMMAND,):
            return (*(shell or _DEFAULT_SHELL), *arguments)
        return None


def parse_health(
    document: object, field: str, names: Tuple[str, ...] = OUR_NAMES
) -> Optional[HealthCheck]:
    """Check and return it, None for None; StartError("config") that names the member."""
    if document is None:
        return None
    if not isinstance(document, dict):
        raise fields.wrong(field, "an object")

    def time_in(name: str) -> int:
        value = fields.whole(document, name, "{}.{}".format(field, name), 0, MOST_NS, default=0)
        if 0 < value < LEAST_NS:
            raise fields.wrong("{}.{}".format(field, name), "0 or at least a millisecond, in ns")
        return value

    test, interval, timeout, start_period, start_interval, retries = names
    return HealthCheck(
        fields.arguments(document, test, "{}.{}".format(field, test)) or (),
        time_in(interval),
        time_in(timeout),
        time_in(start_period),
        time_in(start_interval),
        fields.whole(document, retries, "{}.{}".format(field, retries), 0, 1 << 31, default=0),
    )


class Health:
    """How healthy the main process is. Times are seconds of one clock that never goes back."""

    def __init__(self, check: HealthCheck) -> None:
        self.status = STARTING
        self.failing_streak = 0
        self._interval = (check.interval_ns or INTERVAL_NS) / SECOND_NS
        self._start_interval = (check.start_interval_ns or START_INTERVAL_NS) / SECOND_NS
        self._start_period = check.start_period_ns / SECOND_NS
        self._retries = check.retries or RETRIES
        self._started = 0.0

    def begin(self, now: float) -> float:
        """Learn that the process has started, for the first time or again; return when to check."""
        self.status = STARTING
        self.failing_streak = 0
        self._started = now
        return self.next_check(now)

    def next_check(self, now: float) -> float:
        """Return when to check, if a check has just ended or the process has just started."""
        starts = self.status == STARTING and now - self._started < self._start_period
        return now + (self._start_interval if starts else self._interval)

    def take(self, code: int, began: float) -> None:
        """Take the exit code of a check that began then; anything but 0 is a failure.

        Those of the start period count only once there was a success.
        """
        if code == 0:
            self.status = HEALTHY
            self.failing_streak = 0
        elif self.status != STARTING or began - self._started >= self._start_period:
            self.failing_streak += 1
            if self.failing_streak >= self._retries:
                self.status = UNHEALTHY


def shorten(output: bytes, *, more: bool) -> bytes:
    """Return a check's output as it is kept: `more` of it there was than these bytes."""
    return output[:OUTPUT_BYTES] + (CUT_SHORT if more or len(output) > OUTPUT_BYTES else b"")


def describe_timeout(timeout_ns: int, output: bytes) -> bytes:
    """Return what is kept of a check that had to be killed, in docker's words."""
    told = "Health check exceeded timeout ({:g}s)".format(timeout_ns / SECOND_NS).encode("ascii")
    return told + (b": " + output if output else b"")
