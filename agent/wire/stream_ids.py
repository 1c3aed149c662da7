"""How the streams of processes are numbered: process n has 4n + STDIN, 4n + STDOUT, 4n + STDERR."""

from __future__ import annotations

from agent.wire.c_frame import LAST_PROCESS, STREAMS_PER_PROCESS


def stream_of(process: int, which: int) -> int:
    """Return the stream STDIN, STDOUT or STDERR of a process.

    Raises ValueError on a process number that has no streams.
    """
    if not 0 <= process <= LAST_PROCESS:
        raise ValueError("there is no process number %d" % process)
    return process * STREAMS_PER_PROCESS + which


def process_of(stream: int) -> int:
    """Return the number of the process that a stream belongs to."""
    return stream // STREAMS_PER_PROCESS


def kind_of(stream: int) -> int:
    """Return which of its process's streams this is: STDIN, STDOUT or STDERR (CONTROL: 0)."""
    return stream % STREAMS_PER_PROCESS
