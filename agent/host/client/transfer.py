"""One copy under way between host and guest: the stream of a tar archive, in one direction.

Owns the window of what is sent, what the guest says for people meanwhile, and how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.host.client.connection import Connection
from agent.host.errors import CopyError, GuestLostError
from agent.host.relay.c_relay import OUTPUT, STDIN_HEADER, STDIN_WINDOW, TAKEN, FrameKind
from agent.host.relay.frames import Frame
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus, printable

_PIECE_BYTES = 32768
_SAID_BYTES = 8192  # of what the guest says for people
_WAIT_SECONDS = 60.0  # for the guest to take or send anything


class Transfer:
    """A file for tarfile whose other end is in the guest. Raises LostError when nothing moves."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._out = bytearray()
        self._said = bytearray()
        self._sent = self._taken = 0
        self.status: ExitStatus | None = None

    def read(self, size: int) -> bytes:
        """Return bytes that the guest sends; empty when it has sent all."""
        while len(self._out) < size and self.status is None:
            self._take(self._connection.next_frame(_WAIT_SECONDS))
        data = bytes(self._out[:size])
        del self._out[:size]
        return data

    def read_some(self) -> bytes:
        """Return what has come, at least a byte; empty when the guest has sent all."""
        while not self._out and self.status is None:
            self._take(self._connection.next_frame(_WAIT_SECONDS))
        data = bytes(self._out)
        self._out.clear()
        return data

    def write(self, data: bytes) -> int:
        """Send bytes to the guest, within the relay's window."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            while self._sent + len(piece) - self._taken > STDIN_WINDOW and self.status is None:
                self._take(self._connection.next_frame(_WAIT_SECONDS))
            if self.status is not None:
                raise self.failure("The guest took only a part of the copy")
            header = STDIN_HEADER.pack(self._sent)
            self._connection.send_frame(FrameKind.STDIN, header, piece)
            self._sent += len(piece)
        return len(data)

    def end(self) -> ExitStatus:
        """Say that nothing more is sent, and return how the guest's end of it ended."""
        self._connection.send_frame(FrameKind.STDIN_END)
        return self.finish()

    def finish(self) -> ExitStatus:
        """Wait for the end, and return how the guest's end of it ended."""
        while self.status is None:
            self._take(self._connection.next_frame(_WAIT_SECONDS))
            self._out.clear()  # what comes after the end of an archive
        return self.status

    @property
    def said(self) -> str:
        """What the guest said for people, in one line that can be shown."""
        said = " ".join(printable(self._said.decode("utf-8", "replace")).split())
        if not said and self.status is not None and self.status.failure is not None:
            said = self.status.failure.message
        return said

    def failure(self, what: str) -> CopyError:
        """Return the error with the guest's own words."""
        return CopyError(f"{what}: {self.said or 'it does not say why'}.")

    def _take(self, frame: Frame) -> None:
        if frame.kind == FrameKind.STDOUT:
            self._out += frame.payload[OUTPUT.size :]
        elif frame.kind == FrameKind.STDERR:
            room = _SAID_BYTES - len(self._said)
            self._said += frame.payload[OUTPUT.size : OUTPUT.size + room]
        elif frame.kind == FrameKind.TAKEN:
            (self._taken,) = TAKEN.unpack_from(frame.payload)
        elif frame.kind == FrameKind.EVENT:
            self._take_event(frame.json())

    def _take_event(self, event: Mapping[str, Any]) -> None:
        if event.get("type") == "exited":
            self.status = reported_status(event.get("status"))
        elif event.get("type") == "lost":
            raise GuestLostError("The guest was restarted while files were copied.")
