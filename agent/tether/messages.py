"""What control messages say, on their way in and out. Owns no state.

docs/protocol.md has their members; what a host says that makes no sense is ignored, not refused.
"""

from __future__ import annotations

import math
import os

from agent.hints import Dict, Mapping, Optional
from agent.tether.errors import StartError
from agent.wire.c_frame import CONTROL_LIMIT

MAX_FAILURE = CONTROL_LIMIT // 32  # letters; JSON escapes may cost six bytes each
MAIN = 0  # the number of the main process
MAX_NUMBER = 1e9  # above any signal, any size and 30 years of seconds


def describe_exit(status: int, *, out_of_memory: bool) -> Dict[str, object]:
    """Return the "exited" message for a wait status, with the code as Docker numbers it."""
    return {
        "type": "exited",
        "process": MAIN,
        "code": exit_code(status),
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "core": os.WCOREDUMP(status),
        "oom": out_of_memory,
    }


def exit_code(status: int) -> int:
    """Return the code of a wait status as a shell has it: 128 + N for the signal N."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def describe_failure(number: int, failure: StartError) -> Dict[str, object]:
    """Return the "failed" message for a process that was not started."""
    return {
        "type": "failed",
        "process": number,
        "code": failure.code,
        "kind": failure.kind,
        "message": failure.message[:MAX_FAILURE],
    }


def number_in(message: Mapping[str, object], name: str) -> float:
    """Return a number of a message, or -1 when it is none or none that could make sense."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return -1
    return value if 0 <= value <= MAX_NUMBER else -1  # NaN fails both comparisons


def seconds_in(message: Mapping[str, object]) -> Optional[float]:
    """Return what a wish to stop says, None for the run's own time."""
    asked = message.get("timeout_seconds")
    if asked == -1 and not isinstance(asked, bool):
        return math.inf
    seconds = number_in(message, "timeout_seconds")
    return seconds if seconds >= 0 else None
