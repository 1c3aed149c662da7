"""What the supervisor's loop serves beside the processes. Owns the interface and its empty form.

A companion has descriptors, times and children of its own. The loop calls it; it never blocks, and
it stops no process from starting or ending.
"""

from __future__ import annotations

from agent.hints import Callable, Mapping, Optional, Protocol
from agent.tether.poller import Poller

# Sends a control message to the host; False when too many wait already, and it was not taken.
Tell = Callable[[Mapping[str, object]], bool]


class Companion(Protocol):
    """Something that runs for as long as the supervisor's loop does."""

    def attach(self, poller: Poller, tell: Tell) -> None:
        """Have descriptors watched from now on, and say what the host is to know."""

    def due(self) -> Optional[float]:
        """Return when `tick` is to be called at the latest, None for never."""

    def tick(self, now: float) -> None:
        """Do what is due at `now`; may be called for nothing."""

    def take_end(self, pid: int, status: int) -> bool:
        """Learn how a child ended, as waitpid has it; say whether it was one of ours."""

    def repeat(self) -> None:
        """Say again what the host is to know: it is another session, and knows nothing."""


class Watcher:
    """What a companion does that has descriptors alone, and nothing that has to be said again."""

    def due(self) -> Optional[float]:
        """Return None: it has no times."""

    def tick(self, _now: float) -> None:
        """Do nothing."""

    def take_end(self, _pid: int, _status: int) -> bool:
        """Return False: it has no children."""
        return False

    def repeat(self) -> None:
        """Do nothing: it says nothing."""
