"""Who is at a machine's relay: readers of its log, visitors, and stdin that a reader left behind.

Owns the interfaces by which a relay knows them, and nothing of what they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Reader(Protocol):
    """Somebody who reads the log as it grows, and may give stdin."""

    hold: bool
    moved_at: float
    writer: bytes  # the name under which its stdin is counted
    stdin: bytearray  # that was not taken yet
    stdin_ended: bool  # behind that is the end of the main process's stdin

    @property
    def position(self) -> int:
        """Return how far it is in the log."""

    def wake(self) -> None:
        """Learn that there is more, or that something changed."""

    def close(self) -> None:
        """Let go of it: its client has come back on another connection."""


class Visitor(Protocol):
    """Somebody who has said hello, and is to learn that this relay of the machine is no more."""

    def close(self) -> None:
        """Let go of it."""


@dataclass
class Bequest:
    """Stdin of a reader who left before the guest had room for it."""

    writer: bytes
    stdin: bytearray
    stdin_ended: bool
