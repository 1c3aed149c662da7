"""The init of a world that was asked for with --init: it passes signals on and buries orphans.

Owns the process that stays behind as PID 1 when the program becomes its child. It is a copy of the
agent that cannot be traced, like every child before it executes its program.
"""

from __future__ import annotations

import os

from agent import bare_signal as signal
from agent import bare_socket as socket
from agent.hints import NoReturn

# Those that a process gets for what it did itself; passing them on would do it to another.
_OWN = frozenset(
    (signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP)
)


def split_off(report: socket.socket) -> None:
    """Return in a new child that leads its own group; this process becomes its init.

    All signals are blocked, and stay so: the init takes them one by one.
    """
    child = os.fork()
    if child:
        report.close()  # else its end would not tell that the program runs
        _serve(child)
    os.setpgid(0, 0)
    if os.isatty(0):
        os.tcsetpgrp(0, os.getpid())  # SIGTTOU, which this raises, is blocked


def _serve(child: int) -> NoReturn:
    """Wait for the child's end and end as it did, as a shell would tell it."""
    waited = signal.valid_signals() - _OWN
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                code = os.WEXITSTATUS(status)
                os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else code)
            if not pid:
                break
