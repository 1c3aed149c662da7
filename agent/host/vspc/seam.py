"""What stands behind a VM's line, and what it is given: the two protocols of the seam.

A `Line` is one VM's serial line, whichever connection carries it at the moment; a `LineUser` is
what reads and writes it: the bridge of sockets.py, or a relay. All calls come from the one thread
of the loop, and none may wait. A user may call its line from inside any of its own methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.host.vspc.identity import Claims


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the log; a `minor` one is only for who wants to know everything."""

    text: str
    warning: bool = False
    minor: bool = False


Log = Callable[[Notice], None]


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Let it not be called any more; harmless when it has been."""


class Scheduler(Protocol):
    """Time, for whatever has deadlines."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Have `call` called once, at `when` or soon after."""


class Line(Protocol):
    """One VM's line, as its user sees it."""

    @property
    def uuid(self) -> str:
        """The VM's UUID: the line's name for as long as the process runs."""

    @property
    def claims(self) -> Claims | None:
        """What the VM says about itself on its present connection; None when it has none."""

    def room(self) -> int:
        """Return how many bytes `send` takes now; while the VM moves they wait, within a bound."""

    def send(self, data: bytes) -> int:
        """Queue bytes for the VM; return how many were taken. `writable` says when to go on."""

    def resume(self) -> None:
        """Say that the user has room again after its `room` was 0."""


class LineUser(Protocol):
    """What is behind a line. A line has one user from its first connection to the end.

    Order of calls: `connected`, then any of `receive`, `writable` and `moved`, then `lost`, and so
    on. "Taken" by `Line.send` is not "delivered": what was taken before `lost` may or may not have
    reached the VM.
    """

    def connected(self, claims: Claims) -> None:
        """Learn that the VM is there, after it was not, or that it has begun anew (power cycle)."""

    def moved(self, claims: Claims) -> None:
        """Learn that the VM is at another host now: no byte was lost or doubled on the way."""

    def lost(self, reason: str) -> None:
        """Learn that the VM's connection is gone; all that came over it has been received."""

    def room(self) -> int:
        """Return how many bytes it would like; 0 leaves them unread, which slows the VM."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the VM, all of them: called while `room` is not 0, 64 KiB at most."""

    def writable(self) -> None:
        """Learn that the line may take bytes again, after its room was 0."""

    def idle(self) -> bool:
        """Say whether it may be closed, when the VM is away and its place is needed for another."""

    def close(self) -> None:
        """Let go of everything; the line will not be used again."""


class Backend(Protocol):
    """Makes the user of each new line."""

    def open(self, line: Line, claims: Claims) -> LineUser:
        """Return the user of a line whose VM has just been identified, by these claims.

        Raises ChannelError when the VM is not to be served; it may be asked again.
        """
