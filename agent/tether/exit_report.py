"""How a process ended, or why it was not started, as the host is told.

Owns the messages "exited" and "failed"; waits for nothing and sends nothing.
"""

from __future__ import annotations

import os
from typing import Dict, Optional

from agent.tether.errors import StartError
from agent.wire import CONTROL_LIMIT

MAIN = 0  # the number of the main process
MAX_FAILURE = CONTROL_LIMIT // 32  # letters; JSON escapes may cost six bytes each


def describe_exit(status: int, *, out_of_memory: bool) -> Dict[str, object]:
    """Return the "exited" message for a wait status, with the code as Docker numbers it."""
    if os.WIFSIGNALED(status):
        number: Optional[int] = os.WTERMSIG(status)
        code = 128 + os.WTERMSIG(status)
    else:
        number, code = None, os.WEXITSTATUS(status)
    return {
        "type": "exited",
        "process": MAIN,
        "code": code,
        "signal": number,
        "core": os.WCOREDUMP(status),
        "oom": out_of_memory,
    }


def describe_failure(number: int, failure: StartError) -> Dict[str, object]:
    """Return the "failed" message for a process that was not started."""
    return {
        "type": "failed",
        "process": number,
        "code": failure.code,
        "kind": failure.kind,
        "message": failure.message[:MAX_FAILURE],
    }
