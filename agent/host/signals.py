"""Signals that reach the host process during a run. Owns catching them and what each one means."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
from collections import deque
from collections.abc import Iterator
from types import FrameType

PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
SECOND_INTERRUPT_SECONDS = 2.0


class SignalInbox:
    """Signals as readable data: a loop waits on `fileno()` and takes them with `drain()`."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._arrived: deque[int] = deque()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._reader

    def drain(self) -> list[int]:
        """Return the signals that came since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        arrived = []
        while self._arrived:  # one by one: another may come between any two steps of this
            arrived.append(self._arrived.popleft())
        return arrived

    def put(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal; this is the handler, and it may be called directly."""
        self._arrived.append(number)
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the loop as well
            os.write(self._writer, b"\0")

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._reader)
        os.close(self._writer)


@contextlib.contextmanager
def catch_signals(*numbers: signal.Signals) -> Iterator[SignalInbox]:
    """Collect signals instead of letting them act. Main thread only.

    Without `numbers` they are those of an attached process's terminal: the proxied and SIGWINCH.
    """
    inbox = SignalInbox()
    caught = numbers or (*PROXIED, signal.SIGWINCH)
    before = {number: signal.signal(number, inbox.put) for number in caught}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        inbox.close()


class Action(enum.Enum):
    """What a signal is to do."""

    FORWARD = enum.auto()
    RESIZE = enum.auto()
    ABORT = enum.auto()


class SignalPolicy:
    """Decide what a signal means; pure, the time is an argument.

    Without a terminal, signals go to the guest's process, and a second SIGINT within two seconds
    ends the run though the process ignores it. With one, Ctrl-C is a key that the guest sees, and
    a signal comes from someone who wants this process to end. Before the guest's process has
    started there is nobody to forward to.
    """

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._interrupted_at: float | None = None

    def decide(self, number: int, now: float, *, reachable: bool) -> Action:
        """Return what signal `number` is to do; `reachable` once its process runs."""
        if number == signal.SIGWINCH:
            return Action.RESIZE
        if self._terminal or not reachable:
            return Action.ABORT
        if number == signal.SIGINT:
            last, self._interrupted_at = self._interrupted_at, now
            if last is not None and now - last <= SECOND_INTERRUPT_SECONDS:
                return Action.ABORT
        return Action.FORWARD
