"""One connection as a line sees it. Owns the bytes that came and do not count yet; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.host.vspc.c_vspc import UNIDENTIFIED_BYTES
from agent.host.vspc.session import Session

if TYPE_CHECKING:
    from agent.host.vspc.line import VmLine
    from agent.host.vspc.seam import Timer


class Port:
    """A connection of a VM: its session, the line that it belongs to, and what waits in between.

    Whoever does the I/O makes a subclass that has `wake` and `shut`.
    """

    __slots__ = ("closed", "ended", "held", "line", "session", "timer", "why_ended")

    def __init__(self, address: str) -> None:
        self.session = Session(address)
        self.line: VmLine | None = None
        self.held = bytearray()  # from the VM, not counted yet
        self.ended = False  # no more will come
        self.why_ended = ""
        self.closed = False  # by us
        self.timer: Timer | None = None  # of identification, then of the line's waits

    @property
    def wants_read(self) -> bool:
        """Whether more bytes of this connection can be taken now."""
        if self.closed or self.ended:
            return False
        if self.line is None:
            return len(self.held) <= UNIDENTIFIED_BYTES
        return self.line.reads(self)

    def cancel_timer(self) -> None:
        """Forget the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def close(self, why: str = "") -> None:
        """Close the connection after what is queued has been written; what is held stays."""
        if not self.closed:
            self.closed = True
            self.cancel_timer()
            self.shut(why)

    def wake(self) -> None:
        """Look again at `wants_read` and `session.outgoing`, which have changed."""
        raise NotImplementedError

    def shut(self, why: str) -> None:
        """Close the connection, as `close` says."""
        raise NotImplementedError
