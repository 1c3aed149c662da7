"""What tether tells the console, by way of the kernel's log.

Owns the line format and the levels. Nothing here goes to the host's channel, and nothing may fail:
a log that cannot be written must not stop the guest.
"""

from __future__ import annotations

import os
from types import TracebackType

ERROR = 3  # shown on the console under `quiet loglevel=4`
INFO = 6  # kept in the kernel's log only

_KERNEL_LOG = "/dev/kmsg"
_places = [_KERNEL_LOG]  # where records go, stderr when there is none

# printk cuts a record at about 1000 bytes; the tail of a long text is the less useful part.
MAX_RECORD_BYTES = 900


def use_stderr() -> None:
    """Leave the kernel's log alone from here on: this is a service of somebody else's system."""
    _places.clear()


def write(level: int, message: str) -> None:
    """Append one record per line to the kernel's log, or to stderr where that is out of reach."""
    for line in message.splitlines():
        record = "<{}>tether: {}".format(level, line).encode("utf-8", "backslashreplace")
        try:
            # systemd takes the level off what it finds on stderr, as the kernel does.
            descriptor = os.open(_places[0], os.O_WRONLY | os.O_CLOEXEC)
        except (IndexError, OSError):
            _write_quietly(2, record + b"\n")
            continue
        # Without its end of line the kernel waits for more of it, and shows it with the next one.
        _write_quietly(descriptor, record[:MAX_RECORD_BYTES] + b"\n")
        os.close(descriptor)


def error(message: str) -> None:
    """Log what stopped us."""
    write(ERROR, message)


def info(message: str) -> None:
    """Log what a person who looks for a cause would like to know."""
    write(INFO, message)


def describe(failure: BaseException) -> str:
    """Return an exception with its file:line trail, in one line per frame.

    The `traceback` module does this better but costs 12 ms of every start.
    """
    lines = ["{}: {}".format(type(failure).__name__, failure)]
    trace: TracebackType | None = failure.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append("  {}:{} {}".format(code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    return "\n".join(lines)


def _write_quietly(descriptor: int, record: bytes) -> None:
    try:
        os.write(descriptor, record)
    except OSError:
        return  # there is nowhere left to complain to
