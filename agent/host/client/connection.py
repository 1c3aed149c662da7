"""A client's connection to a relay: hello, request, then frames both ways. Owns the socket.

Blocking, with a time limit for the dialogue at the beginning; afterwards the caller waits on
`fileno()`. Whatever the relay refuses becomes an error of agent.host.errors.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.host.errors import AccessError, ChannelError, RelayError, RequestError
from agent.host.relay.c_relay import CLIENT_VERSION, FrameKind
from agent.host.relay.frames import Frame, FrameError, FrameParser, encode_frame, encode_json
from agent.host.relay.sockets import connect_unix

RECONNECT_SECONDS = 30.0  # for the next relay to come, where one was killed
_ANSWER_SECONDS = 30.0
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The socket of a machine's relay (relay.sock in its folder), or of one for many machines."""

    path: Path
    machine: str = ""  # which of many

    def connect(self, seconds: float) -> socket.socket:
        """Return a connected socket. Raises ChannelError."""
        return connect_unix(os.fspath(self.path), seconds)

    @property
    def hello(self) -> dict[str, Any]:
        """What the first frame says beside the version."""
        return {"machine": self.machine} if self.machine else {}


@dataclass(frozen=True, slots=True)
class TlsAddress:
    """A relay for many machines. `context` has the client's certificate, if it has one."""

    host: str
    port: int
    machine: str
    context: ssl.SSLContext
    token: str | None = field(default=None, repr=False)

    def connect(self, seconds: float) -> socket.socket:
        """Return a connected socket. Raises ChannelError."""
        try:
            plain = socket.create_connection((self.host, self.port), seconds)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self.context.wrap_socket(plain, server_hostname=self.host)
        except ssl.SSLError as error:
            raise ChannelError(
                f"The relay at {self.host}:{self.port} cannot be reached over TLS: {error}.",
                expected="a relay with a certificate that the given authority has signed",
            ) from error
        except OSError as error:
            raise ChannelError(
                f"The relay at {self.host}:{self.port} cannot be reached: "
                f"{error.strerror or error}.",
                expected="a relay that listens there, as saltflat vspc serve --clients does",
            ) from error

    @property
    def hello(self) -> dict[str, Any]:
        """What the first frame says beside the version."""
        return {"machine": self.machine, **({"token": self.token} if self.token else {})}


class Address(Protocol):
    """Where a relay is: what connections are made to."""

    def connect(self, seconds: float) -> socket.socket:
        """Return a connected socket. Raises ChannelError."""

    @property
    def hello(self) -> dict[str, Any]:
        """What the first frame says beside the version."""


class LostError(RelayError):
    """The relay closed the connection, or was killed: connect again to go on."""

    kind = "relay-lost"


class Connection:
    """One connection, for one request. Raises ChannelError, AccessError, LostError."""

    def __init__(self, address: Address, *, seconds: float = _ANSWER_SECONDS) -> None:
        self._seconds = seconds
        self._parser = FrameParser()
        self._frames: deque[Frame] = deque()
        self._unsent = b""
        self._socket = address.connect(seconds)
        try:
            hello = {"version": CLIENT_VERSION, **address.hello}
            self.send(encode_json(FrameKind.HELLO, hello))
            frame = self.next_frame(seconds)
            if frame.kind == FrameKind.RESPONSE:
                raise_refusal(frame.json())
            if frame.kind != FrameKind.HELLO:
                raise LostError("What answers is no relay.")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def ask(
        self,
        request: Mapping[str, Any],
        *,
        on_event: Callable[[Mapping[str, Any]], None] = lambda _event: None,
    ) -> dict[str, Any]:
        """Send the request that this connection is for; return the answer.

        `on_event` gets what the relay says before that, while it waits for the guest. Raises
        RequestError, AccessError or LostError.
        """
        self.send(encode_json(FrameKind.REQUEST, request))
        while True:
            frame = self.next_frame(self._seconds)
            if frame.kind == FrameKind.RESPONSE:
                answer = frame.json()
                raise_refusal(answer)
                return answer
            if frame.kind == FrameKind.EVENT:
                on_event(frame.json())

    def say(self, request: Mapping[str, Any]) -> None:
        """Send a request that is not answered: resize or signal, while attached."""
        self.send(encode_json(FrameKind.REQUEST, request))

    def send_frame(self, kind: int, *parts: bytes) -> None:
        """Send a frame. Raises LostError."""
        self.send(encode_frame(kind, *parts))

    def send(self, data: bytes) -> None:
        """Send all of it. Raises LostError."""
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(data)
        except OSError as error:
            raise LostError(f"The relay is gone: {error.strerror or error}.") from error

    def next_frame(self, seconds: float | None) -> Frame:
        """Return the next frame, waiting for it so long; None: as long as it takes.

        Raises LostError, also when the time is over.
        """
        while not self._frames:
            self._read(seconds)
        return self._frames.popleft()

    def wait(self, seconds: float) -> bool:
        """Wait so long for something to come; return whether it did, or the relay is gone."""
        if self.holds_frames:
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def ready_frames(self) -> list[Frame]:
        """Return the frames that are here already, after `fileno()` was readable.

        Raises LostError when there is none and there will be none.
        """
        if not self._frames:
            with contextlib.suppress(TimeoutError):
                self._read(0.0)
        found = list(self._frames)
        self._frames.clear()
        return found

    @property
    def holds_frames(self) -> bool:
        """Whether `ready_frames` has something though the descriptor may not be readable."""
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        return bool(self._frames) or pending

    def _read(self, seconds: float | None) -> None:
        try:
            if not self.holds_frames and seconds is not None:
                poll = select.poll()
                poll.register(self._socket.fileno(), select.POLLIN)
                if not poll.poll(seconds * 1000):
                    if seconds:
                        raise LostError(f"The relay did not answer within {seconds:g} s.")
                    return
            self._socket.settimeout(None if seconds is None else self._seconds)
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise LostError(f"The relay is gone: {error.strerror or error}.") from error
        if not data:
            raise LostError("The relay closed the connection.")
        try:
            self._frames.extend(self._parser.feed(data))
        except FrameError as error:
            raise LostError(f"The relay speaks another protocol: {error}.") from error


def raise_refusal(answer: Mapping[str, Any]) -> None:
    """Raise what the relay refuses with; return when it does not."""
    if answer.get("ok") is True:
        return
    error = answer.get("error")
    kind = error.get("kind") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if kind == "denied":
        raise AccessError(
            f"The relay refuses: {message}.",
            hint="Ask whoever keeps the relay's rules, or look at the socket's owner.",
        )
    raise RequestError(f"The relay refuses: {message}.")
