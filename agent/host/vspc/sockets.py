"""A user for lines that needs nothing else: each VM's line as a Unix socket, `DIR/<uuid>.sock`.

One client at a time may read and write there, `socat - UNIX-CONNECT:...` for example. While there
is none, the newest of what the VM says is kept for the next one. A client that does not read slows
its VM down, and no other.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.loop import GONE, READABLE, WRITABLE, Loop
from agent.host.transport import SUN_PATH_BYTES, Connection, UnixListener
from agent.host.vspc.c_vspc import QUEUE_BYTES
from agent.host.vspc.errors import BusyError
from agent.host.vspc.identity import Claims
from agent.host.vspc.seam import Line, Log, Notice

KEPT_BYTES = 65536  # of what a VM says while nobody listens
_NAME_BYTES = len("/00000000-0000-0000-0000-000000000000.sock")
_NAMES = "????????-????-????-????-????????????.sock"


class SocketBackend:
    """The sockets in `directory`, which is made (mode 0700) or must be safe."""

    def __init__(self, directory: Path, loop: Loop, log: Log) -> None:
        """Raises ChannelError, BusyError."""
        self._directory = directory
        self._loop = loop
        self._log = log
        self._lock = _claim(directory)
        for left in directory.glob(_NAMES):  # by a process that was killed: the lock says so
            left.unlink(missing_ok=True)

    def open(self, line: Line, _claims: Claims) -> SocketUser:
        """Make the socket of a line. Raises ChannelError."""
        path = self._directory / f"{line.uuid}.sock"
        unborn = self._directory / ".new"
        before = os.umask(0o177)
        try:
            unborn.unlink(missing_ok=True)
            listener = UnixListener(unborn)
            # Whoever sees the socket can connect to it.
            unborn.replace(path)
        except OSError as error:
            raise ChannelError(f"The socket {path} could not be made: {error}.") from error
        finally:
            os.umask(before)
        listener.path = path
        return SocketUser(line, listener, self._loop, self._log)

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)


def _claim(directory: Path) -> int:
    """Return a lock on the directory, which only its owner may write to."""
    longest = SUN_PATH_BYTES - _NAME_BYTES
    if len(os.fsencode(directory)) > longest:
        raise ChannelError(
            f"The path {directory} is too long for sockets in it.",
            expected=f"at most {longest} bytes",
            hint="Name a shorter directory, or a relative one.",
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ChannelError(f"The directory {directory} cannot be used: {error}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return lock
        raise ChannelError(
            f"Others may write to the directory {directory}.",
            expected="a directory of the user who runs this, which nobody else may write to",
            hint=f"chmod 700 {directory}, or name another one.",
        )
    except BlockingIOError as error:
        os.close(lock)
        raise BusyError(
            f"Another process serves {directory}.",
            expected="a directory for each concentrator",
            hint="Stop the other process, or name another directory.",
        ) from error
    except BaseException:
        os.close(lock)
        raise


class SocketUser:
    """The socket of one line, as seam.LineUser."""

    def __init__(self, line: Line, listener: UnixListener, loop: Loop, log: Log) -> None:
        self._line = line
        self._listener = listener
        self._loop = loop
        self._log = log
        self._client: Connection | None = None
        self._finished = False  # the client will send nothing more
        self._gone = False  # it will read nothing more
        self._kept = bytearray()  # for the client, or for the next one
        self._held = b""  # from the client, for a line without room
        loop.watch(listener.fileno(), READABLE, self._accept)

    # --- as the line sees it (seam.LineUser) -----------------------------------------------------

    def connected(self, claims: Claims) -> None:
        """Go on: there is somebody to write to."""
        self.writable()

    def moved(self, claims: Claims) -> None:
        """Go on as before: the client need not know."""

    def lost(self, reason: str) -> None:
        """Stop reading the client, until the VM is back."""
        self.writable()

    def room(self) -> int:
        """Without a client there is always room, since the oldest bytes make way."""
        if self._client is None:
            return KEPT_BYTES
        return max(0, QUEUE_BYTES - len(self._kept))

    def receive(self, data: bytes) -> None:
        """Take bytes from the VM."""
        self._kept += data
        if self._client is not None:
            self._write(self._client)
            self._watch(self._client)
        elif len(self._kept) > 2 * KEPT_BYTES:  # not at every byte, for that would copy every byte
            del self._kept[:-KEPT_BYTES]

    def writable(self) -> None:
        """Go on with what the client has for the VM."""
        if self._client is not None:
            self._read(self._client)

    def idle(self) -> bool:
        """Say whether nobody is attached."""
        return self._client is None

    def close(self) -> None:
        """Close and remove the socket."""
        if self._client is not None:
            self._drop(self._client)
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    # --- the client ------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        accepted = self._listener.accept()
        if accepted is None:
            return
        if self._client is not None and self._gone:
            # Only what it said last keeps it, and its VM does not take that.
            self._drop(self._client)
        if self._client is not None:
            self._log(Notice(f"VM {self._line.uuid}: a second client is refused", minor=True))
            accepted.close()
            return
        self._client = accepted
        self._finished = self._gone = False
        del self._kept[:-KEPT_BYTES]
        self._log(Notice(f"VM {self._line.uuid}: a client is attached", minor=True))
        self._write(accepted)
        self._watch(accepted)

    def _on_client(self, events: int) -> None:
        client = self._client
        if client is None:
            return
        self._gone = bool(events & GONE)
        if events & WRITABLE:
            self._write(client)
        self._read(client)

    def _read(self, client: Connection) -> None:
        """Take from the client what the line has room for; ends with `_watch`."""
        if self._held:
            self._held = self._held[self._line.send(self._held) :]
        if not self._held and not self._finished and self._line.room():
            data = client.receive()
            if data is None:
                self._finished = True  # it may still read: `echo reboot | socat - ...`
            elif data:
                self._held = data[self._line.send(data) :]
        if self._gone and self._finished and not self._held:
            self._drop(client)
        else:
            self._watch(client)

    def _write(self, client: Connection) -> None:
        """Give the client what it takes, and let the VM go on."""
        while client.send() and self._kept and not self._gone:
            piece = bytes(self._kept[:QUEUE_BYTES])
            del self._kept[:QUEUE_BYTES]
            client.send(piece)
        self._line.resume()

    def _watch(self, client: Connection) -> None:
        reads = not self._finished and not self._held and self._line.room() > 0
        if self._gone and not reads:
            self._loop.forget(client.fileno())  # or epoll would report it for ever
            return
        writes = not self._gone and (client.blocked or self._kept)
        events = (READABLE if reads else 0) | (WRITABLE if writes else 0)
        self._loop.watch(client.fileno(), events, self._on_client)

    def _drop(self, client: Connection) -> None:
        self._loop.forget(client.fileno())
        client.close()
        self._client = None
        self._held = b""
        self._log(Notice(f"VM {self._line.uuid}: the client has left", minor=True))
        self._line.resume()
