"""End a machine's process through its relay, and wait until that is so: stop and kill.

Owns how long that may take. Who reaches a machine through a relay alone cannot cut its power: a
guest that does not answer is an error here.
"""

from __future__ import annotations

import signal
import time

from agent.host.client.conditions import UNANSWERED
from agent.host.client.connection import Address
from agent.host.client.ready import describe
from agent.host.client.verbs import send_signal, stop, wait_until
from agent.host.errors import GuestLostError, RequestError
from agent.host.status import ExitStatus

GRACE_SECONDS = 10.0  # for a guest to die of SIGKILL, and to say so


def stop_and_wait(
    address: Address, timeout_seconds: float | None = None, number: int | None = None
) -> ExitStatus:
    """Have the main process stop as `stop` does; return how it ended, or had ended before.

    A `timeout_seconds` of None is the run's own time, -1 is for ever. Raises GuestLostError when it
    has not ended some time after that, and the error of a guest that does not answer.
    """
    if describe(address)["ended"] is None:
        stop(address, timeout_seconds, number)
    endless = timeout_seconds is None or timeout_seconds < 0
    return _last_end(address, None if endless else (timeout_seconds or 0.0) + GRACE_SECONDS)


def kill(address: Address, number: int) -> None:
    """Send the main process a signal; with SIGKILL, return when it has ended.

    Raises RequestError when it has ended before, GuestLostError when it does not die.
    """
    if describe(address)["ended"] is not None:
        raise RequestError("The machine does not run.", expected="a running machine")
    send_signal(address, number)
    if number == signal.SIGKILL:
        _last_end(address, GRACE_SECONDS)


def _last_end(address: Address, seconds: float | None) -> ExitStatus:
    """Wait for the end after which the process is not started again."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        status = wait_until(address, deadline, fatal=UNANSWERED)
        if status is None:
            raise GuestLostError(
                f"The process has not ended within {seconds:g} s.",
                expected="the end of a process that was killed",
                hint="Power its machine off where it runs: a relay cannot.",
            )
        if not status.restarts:
            return status
