"""The socket that the hypervisor connects to. Owns its path, its privacy and its connections.

QEMU's chardev is the client (`-chardev socket,path=...,server=off,reconnect=1`): so the host end
may end and come back while the machine runs. A connection says nothing about the guest: it is
accepted before the guest's firmware has started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.host.errors import ChannelError

SUN_PATH_BYTES = 107  # unix(7): sun_path holds 108, one of them the final zero
_NAME_BYTES = 32  # left for the file names inside a private directory
_READ_BYTES = 65536


@contextlib.contextmanager
def private_directory(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Make a directory of mode 0700 for sockets, and remove it with its content afterwards.

    Its path is short enough for a socket's whatever TMPDIR is. Raises ChannelError.
    """
    reasons = []
    for parent in (environment.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a name that nobody can have prepared, of mode 0700
        if not parent:
            continue
        try:
            made = Path(tempfile.mkdtemp(prefix="saltflat-", dir=parent))
        except OSError as error:
            reasons.append(str(error))
            continue
        try:
            if len(os.fsencode(made)) + 1 + _NAME_BYTES <= SUN_PATH_BYTES:
                yield made
                return
            reasons.append(f"{parent} is too long for a socket's path")
        finally:
            shutil.rmtree(made, ignore_errors=True)
    raise ChannelError(
        f"No private directory for the guest's channel could be made: {'; '.join(reasons)}.",
        expected=f"a writable directory whose path has at most {SUN_PATH_BYTES} bytes",
        hint="Set XDG_RUNTIME_DIR or TMPDIR to a short path that you may write to.",
    )


class Connection:
    """One accepted connection: what is read is handed on at once, what is not taken is kept."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self._socket = accepted
        self._unsent = memoryview(b"")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def blocked(self) -> bool:
        """Whether the peer has not yet taken what was last sent."""
        return bool(self._unsent)

    def receive(self) -> bytes | None:
        """Return what has arrived: empty when nothing has, None when the peer has closed."""
        try:
            return self._socket.recv(_READ_BYTES) or None
        except BlockingIOError:
            return b""
        except OSError:  # reset by the peer, and its kin: the line is gone either way
            return None

    def send(self, data: bytes = b"") -> bool:
        """Send, after what is still unsent; return whether the peer has taken it all.

        A closed connection takes everything: `receive` is what reports the close.
        """
        pending = self._unsent or memoryview(data)
        try:
            while pending:
                pending = pending[self._socket.send(pending) :]
        except BlockingIOError:
            pass
        except OSError:
            pending = memoryview(b"")
        self._unsent = pending
        return not pending

    def close(self) -> None:
        """Close it; what is unsent is lost."""
        self._socket.close()


class UnixListener:
    """Listen on a Unix socket; the directory that it is in decides who may connect."""

    def __init__(self, path: Path) -> None:
        if len(os.fsencode(path)) > SUN_PATH_BYTES:
            raise ChannelError(
                f"The socket path {path} is too long.",
                expected=f"at most {SUN_PATH_BYTES} bytes",
                hint="Put the socket into a directory from private_directory().",
            )
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(os.fspath(path))
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            raise ChannelError(f"The socket {path} could not be made: {error}.") from error

    def __enter__(self) -> UnixListener:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def accept(self) -> Connection | None:
        """Return the next connection, or None when nobody is waiting any more."""
        try:
            accepted, _address = self._socket.accept()
        except OSError:
            return None
        return Connection(accepted)

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
