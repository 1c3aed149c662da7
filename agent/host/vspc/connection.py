"""One TCP connection of a VM, with or without TLS: moves bytes between the socket and the registry.

Reads one piece in each turn of the loop, and none while nobody has room for it: so a VM that floods
us slows itself down and nobody else. Never waits.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

from agent.host.loop import GONE, READABLE, WRITABLE, Loop
from agent.host.vspc.c_vspc import CLOSE_SECONDS, READ_BYTES
from agent.host.vspc.port import Port
from agent.host.vspc.registry import Registry
from agent.host.vspc.seam import Log, Notice

_KEEPALIVE = (  # a host that lost its power is noticed within a minute (tcp(7))
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds
)
_UNSENT_BYTES = 16384  # in the kernel: what is there cannot be held back when the VM moves


class Connection(Port):
    """An accepted connection; `gone` is called when its descriptor has been closed."""

    __slots__ = (
        "_flush",
        "_gone",
        "_handshake",
        "_log",
        "_loop",
        "_registry",
        "_settling",
        "_socket",
    )

    def __init__(
        self,
        accepted: socket.socket,
        address: str,
        loop: Loop,
        registry: Registry,
        *,
        context: ssl.SSLContext | None,
        gone: Callable[[Connection], None],
        log: Log,
    ) -> None:
        """Raises OSError when the peer has gone already."""
        super().__init__(address)
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        for option, value in _KEEPALIVE:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
        self._handshake = context is not None
        if context is not None:
            accepted = context.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        self._socket: socket.socket | None = accepted
        self._loop = loop
        self._registry = registry
        self._gone = gone
        self._log = log
        self._settling = False
        self._flush = False  # closed by us: write what is queued, then end
        registry.opened(self)
        self.wake()

    def wake(self) -> None:
        """Look again, before the next wait, at what is to be written and whether to read."""
        if not self._settling and self._socket is not None:
            self._settling = True
            self._loop.call_soon(self._settle)

    def shut(self, why: str) -> None:
        """Write what is queued within a moment, then close."""
        if self.ended or self._handshake:
            self._drop()
            return
        self._flush = True
        self.timer = self._loop.call_at(self._loop.now() + CLOSE_SECONDS, self._drop)
        self.wake()

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        self.cancel_timer()
        self._drop()

    def _drop(self) -> None:
        self.cancel_timer()
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._gone(self)

    def _on_ready(self, events: int) -> None:
        if self._socket is None:
            return
        with self._alone():
            if self._handshake:
                self._shake()
            elif events & (READABLE | GONE):
                self._read()
        self.wake()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody else's line suffer from a bug that one VM has brought to light."""
        try:
            yield
        except Exception as error:
            bug = f"saltflat has a bug: {type(error).__name__}: {error}"
            self._log(
                Notice(f"{self.session.claims}: {bug}; its connection is closed", warning=True)
            )
            self.abort()
            self._registry.ended(self, "the concentrator has a bug")

    def _shake(self) -> None:
        """Go on with the TLS handshake; it counts into the time to say who it is."""
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.watch(self._socket.fileno(), READABLE, self._on_ready)
        except ssl.SSLWantWriteError:
            self._loop.watch(self._socket.fileno(), WRITABLE, self._on_ready)
        except OSError as error:  # ssl.SSLError is one
            self._lost(f"no TLS: {error}")
        else:
            self._handshake = False

    def _read(self) -> None:
        assert self._socket is not None
        if self.closed:
            self._discard()
            return
        if not self.wants_read:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if not data:
            self._lost("it closed the connection")
            return
        self._registry.receive(self, data)

    def _lost(self, why: str) -> None:
        self.ended = True
        self.why_ended = why
        self._registry.ended(self, why)
        if self._socket is not None:  # bytes of it are held for a user without room
            self._loop.forget(self._socket.fileno())

    def _discard(self) -> None:
        """Read what nobody wants: closing with bytes unread would destroy our last words."""
        assert self._socket is not None
        try:
            if self._socket.recv(READ_BYTES):
                return
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            pass
        self._drop()

    def _settle(self) -> None:
        self._settling = False
        with self._alone():
            self._settle_now()

    def _settle_now(self) -> None:
        """Write what is queued, and tell the loop what to wait for."""
        if self._socket is None or self.ended:
            return
        if self._handshake:
            self._shake()
            if self._handshake or self._socket is None:
                return
        if self.session.outgoing:
            self._write()
        if self._socket is None:
            return
        if self._flush and not self.session.outgoing:
            self._flush = False
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        reads = self.closed or self.wants_read
        if reads and isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._loop.call_soon(self._again)  # in TLS's buffer, of which epoll knows nothing
        events = (READABLE if reads else 0) | (WRITABLE if self.session.outgoing else 0)
        if events:
            self._loop.watch(self._socket.fileno(), events, self._on_ready)
        else:  # or epoll would report a reset connection for ever
            self._loop.forget(self._socket.fileno())

    def _again(self) -> None:
        self._on_ready(READABLE)

    def _write(self) -> None:
        assert self._socket is not None
        outgoing = self.session.outgoing
        try:
            # Copied, since the queue cannot grow while a view of it is in use.
            sent = self._socket.send(bytes(outgoing[:READ_BYTES]))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # Reading will tell what has happened, after what came before it happened.
            outgoing.clear()
            return
        del outgoing[:sent]
        if not outgoing:
            self._registry.written(self)
