"""Unix sockets at paths of any length, in folders that only their owner may enter.

unix(7) gives a path 107 bytes; a long one is reached through the descriptor of its folder. Owns
making, privacy and connecting of sockets, and what is left of one whose process was killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.transport import SUN_PATH_BYTES

_TIMEVAL = struct.Struct("@ll")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield a path of the same socket that is short enough."""
    if len(os.fsencode(path)) <= SUN_PATH_BYTES:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def listen_unix(path: str) -> socket.socket:
    """Return a listening socket of mode 0600 at `path`, in place of one that nobody answers at.

    Raises ChannelError when somebody does answer there, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as short:
            _remove_dead(Path(path), short)
            before = os.umask(0o177)
            try:
                listener.bind(short)
            finally:
                os.umask(before)
        listener.setblocking(False)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ChannelError(f"The socket {path} could not be made: {error.strerror}.") from error
    except ChannelError:
        listener.close()
        raise
    return listener


def _remove_dead(path: Path, short: str) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ChannelError(f"{path} is in the way: it is no socket.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(short)
        except BlockingIOError:  # its queue is full: somebody is there
            pass
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ChannelError(
        f"Another relay answers at {path}.",
        expected="one relay for one machine",
        hint="Use that one, or end it first.",
    )


def connect_unix(path: str, seconds: float) -> socket.socket:
    """Return a socket connected to `path`. Raises ChannelError when nobody is there."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout: then a full queue of a busy relay is an error at once, not a wait.
        whole, rest = divmod(seconds, 1)
        limit = _TIMEVAL.pack(int(whole), int(rest * 1_000_000))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with _short(path) as short:
            connected.connect(short)
    except OSError as error:
        connected.close()
        raise ChannelError(
            f"No relay answers at {path}: {error.strerror or error}.",
            expected="the socket of a running relay",
            hint="The machine does not run, or its relay was killed.",
        ) from error
    return connected


def peer_uid(connected: socket.socket) -> int:
    """Return the uid of the process at the other end of a Unix socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
