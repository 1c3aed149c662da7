"""Copy files between host and guest, as `docker cp` does: tar streams through the relay.

Owns where things go: a target that is a folder gets the source in it, any other name is what the
copy is called. What the guest sends is hostile, and unpack.py is what meets it.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from agent.host.client.connection import Address, Connection
from agent.host.client.unpack import Limits, Unpacked, unpack
from agent.host.errors import CopyError, GuestLostError
from agent.host.relay.c_relay import OUTPUT, STDIN_HEADER, STDIN_WINDOW, TAKEN, FrameKind
from agent.host.relay.frames import Frame
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus, printable

_PIECE_BYTES = 32768
_SAID_BYTES = 8192  # of what the guest says for people
_WAIT_SECONDS = 60.0  # for the guest to take or send anything


class _Transfer:
    """One copy under way: a file for tarfile, in one direction."""

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

    def finish(self) -> ExitStatus:
        """Wait for the end, and return how the guest's end of it ended."""
        while self.status is None:
            self._take(self._connection.next_frame(_WAIT_SECONDS))
            self._out.clear()  # what comes after the end of an archive
        return self.status

    def failure(self, what: str) -> CopyError:
        """Return the error with the guest's own words."""
        said = " ".join(printable(self._said.decode("utf-8", "replace")).split())
        if self.status is not None and self.status.failure is not None:
            said = said or self.status.failure.message
        return CopyError(f"{what}: {said or 'it does not say why'}.")

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


def copy_out(
    address: Address, source: str, target: Path, *, limits: Limits | None = None
) -> Unpacked:
    """Copy a file or folder of the guest to `target` on the host; return what was made.

    Into `target` when that is a folder, else under that name. Nothing outside is ever written,
    whatever the guest sends. Raises CopyError.
    """
    if target.is_dir():
        folder, rename = target, None
    else:
        folder, rename = target.parent, target.name
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CopyError(
            f"{folder} cannot be written to: {error.strerror}.", expected="a folder that is there"
        ) from error
    try:
        with Connection(address) as connection:
            connection.ask({"type": "copy-out", "path": source})
            transfer = _Transfer(connection)
            try:
                done = unpack(transfer, descriptor, rename=rename, limits=limits)
            except CopyError:
                if transfer.status is not None and transfer.status.code:
                    raise transfer.failure(f"{source!r} could not be copied") from None
                raise
            if transfer.finish().code:
                raise transfer.failure(f"{source!r} could not be copied whole")
            return done
    finally:
        os.close(descriptor)


def copy_in(address: Address, source: Path, target: str, *, name: str | None = None) -> None:
    """Copy a file or folder of the host into the folder `target` of the guest.

    It is called `name` there, or what it is called here. Symbolic links are copied as links.
    Raises CopyError.
    """
    if not source.is_symlink() and not source.exists():
        raise CopyError(f"{source} is not there.")
    with Connection(address) as connection:
        connection.ask({"type": "copy-in", "path": target})
        transfer = _Transfer(connection)
        try:
            with tarfile.open(
                fileobj=cast(IO[bytes], transfer), mode="w|", format=tarfile.PAX_FORMAT
            ) as archive:
                archive.add(source, arcname=name or source.name or source.resolve().name)
        except OSError as error:
            raise CopyError(f"{source} cannot be read: {error.strerror}.") from error
        connection.send_frame(FrameKind.STDIN_END)
        if transfer.finish().code:
            raise transfer.failure(f"{source} could not be copied")
