"""Run one input under limits and say what it found. Owns what counts as a hang and as too much.

Limits are CPU seconds and address space, never wall time: a machine that is busy, or a process that
was stopped for a while, must not look like a bug.
"""

from __future__ import annotations

import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
HANG_CPU_SECONDS = 20.0  # inputs take milliseconds
ADDRESS_SPACE_BYTES = 2 << 30  # the largest window of zstd, the largest map of a link, and room


class HangError(BaseException):
    """An input took more than its CPU time; no `except Exception` may swallow that."""


@dataclass(frozen=True, slots=True)
class Find:
    """A bug: `signature` is the same for the same fault at the same place."""

    signature: str
    report: str
    input: bytes


def limit_memory() -> None:
    """Make this process fail with MemoryError rather than take the machine's memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, hard))


def judge(
    one_input: Callable[[bytes], None], data: bytes, *, hang_cpu_seconds: float = HANG_CPU_SECONDS
) -> Find | None:
    """Return what `data` finds in the target whose function is `one_input`. Main thread only."""
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, hang_cpu_seconds)
    try:
        one_input(data)
    except (Exception, HangError) as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return Find(_signature(error), "".join(traceback.format_exception(error)), data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return None


def _hang(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise HangError("one input took more than its CPU time")


def _signature(error: BaseException) -> str:
    """Name the fault by its type and the deepest line of ours that it went through."""
    if isinstance(error, HangError):
        return "HangError"  # wherever the time was up
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename
    ]
    place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "nowhere"
    signature = f"{type(error).__name__} at {place}"
    cause = error.__cause__
    return signature if cause is None else f"{signature} from {_signature(cause)}"
