"""Signals as something to wait for: handlers that only wake the loop, and which ones came.

Owns the program's handlers for as long as it is open, and the socket whose end the loop watches.
"""

from __future__ import annotations

from types import FrameType

from agent import bare_signal as signal
from agent import bare_socket as socket
from agent.hints import Dict, FrozenSet, Optional, Sequence


class Wakeup:
    """A context manager: inside, the signals `numbers` wake whoever waits on `descriptor`."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._reader, self._writer = socket.socketpair()
        self._handlers: Dict[int, object] = {}

    @property
    def descriptor(self) -> int:
        """What is readable when signals have come."""
        return self._reader.fileno()

    def __enter__(self) -> Wakeup:
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            self._handlers[number] = signal.signal(number, _only_wake)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
        self._reader.close()
        self._writer.close()

    def take(self) -> FrozenSet[int]:
        """Return which signals have come since the last call."""
        try:
            return frozenset(self._reader.recv(4096))
        except BlockingIOError:
            return frozenset()


def _only_wake(_number: int, _frame: Optional[FrameType]) -> None:
    """Do nothing: the wakeup descriptor has the signal already."""
