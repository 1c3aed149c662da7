"""What the agent uses of `signal`, as a guest can afford it: its numbers, and no enumerations.

Owns the names of signals; `bare_socket` says what the standard module costs. To a type checker
everything here is the standard module's.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Mapping

__all__ = [
    "NAMES",
    "SIGABRT",
    "SIGBUS",
    "SIGCHLD",
    "SIGFPE",
    "SIGILL",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPWR",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTOP",
    "SIGTERM",
    "SIGTRAP",
    "SIGXFSZ",
    "SIG_DFL",
    "SIG_SETMASK",
    "pthread_sigmask",
    "set_wakeup_fd",
    "signal",
    "sigwait",
    "valid_signals",
]

if TYPE_CHECKING:
    from signal import (
        SIG_DFL,
        SIG_SETMASK,
        SIGABRT,
        SIGBUS,
        SIGCHLD,
        SIGFPE,
        SIGILL,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGPWR,
        SIGRTMAX,
        SIGRTMIN,
        SIGSEGV,
        SIGSTOP,
        SIGTERM,
        SIGTRAP,
        SIGXFSZ,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
        sigwait,
        valid_signals,
    )

    _known: Mapping[str, object]
else:
    import _signal

    _known = vars(_signal)
    globals().update((name, _known[name]) for name in __all__ if name in _known)

# Every signal that this system has, by its name without "SIG".
NAMES: Mapping[str, int] = {
    name[3:]: number
    for name, number in _known.items()
    if name.startswith("SIG") and name[3] != "_" and isinstance(number, int)
}
