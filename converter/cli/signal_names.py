"""Signals by name or number, as users write them. Pure.

The numbers are Linux's, which are the guest's.
"""

from __future__ import annotations

import re
import signal

from converter.errors import UsageError

_REAL_TIME = re.compile(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?")
# As the C library and docker count them: the kernel's first two are for threads.
_REAL_TIME_ENDS = {"MIN": 34, "MAX": 64}


def read_signal(text: str) -> int:
    """Return a signal's number: "9", "KILL", "sigkill" and "SIGRTMIN+3" name signals.

    Raises UsageError.
    """
    name = text.strip().upper().removeprefix("SIG")
    number = 0
    if name.isascii() and name.isdigit():
        number = int(name)
    elif match := _REAL_TIME.fullmatch(name):
        offset = int(match[3] or 0)
        number = _REAL_TIME_ENDS[match[1]] + (-offset if match[2] == "-" else offset)
        number = number if number >= _REAL_TIME_ENDS["MIN"] else 0
    else:
        found = getattr(signal.Signals, f"SIG{name}", None)
        number = int(found) if found is not None else 0
    if not 1 <= number <= _REAL_TIME_ENDS["MAX"]:
        raise UsageError(
            f"{text!r} is no signal.", expected="a name like TERM or SIGTERM, or 1 to 64"
        )
    return number
