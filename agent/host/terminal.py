"""The user's terminal. Owns raw mode and the window's size; knows nothing of the guest."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from collections.abc import Iterator
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Have the terminal pass every key as it is, and restore it on every way out.

    That includes SIGTERM and SIGHUP where nobody else handles them: the terminal is restored, then
    the signal does what it would have done. Main thread only, as signal handlers are.
    """
    before = termios.tcgetattr(descriptor)

    def restore() -> None:
        # TCSADRAIN: output that was written in raw mode is shown in raw mode.
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def restore_and_end(number: int, _frame: FrameType | None) -> None:
        restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    unhandled = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, restore_and_end)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        restore()
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def window_size(descriptor: int) -> tuple[int, int] | None:
    """Return (rows, columns), or None when the terminal does not know or there is none."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None
