"""The concentrator: listening sockets, accepted connections, and their number.

One thread for thousands of VMs. What cannot be served is refused at the door: by its address,
before anything else is spent on it, or because there is no descriptor left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.host.loop import READABLE, Loop
from agent.host.vspc.allow import AllowList, Verdict
from agent.host.vspc.c_telnet import IAC
from agent.host.vspc.c_vspc import SECRET_BYTES
from agent.host.vspc.connection import Connection
from agent.host.vspc.errors import ListenError
from agent.host.vspc.identity import Claims
from agent.host.vspc.registry import Registry
from agent.host.vspc.seam import Backend, Log, Notice

_BACKLOG = 4096  # a rack that comes back connects all at once; beyond it SYNs wait whole seconds
_ACCEPTS = 64  # in one turn
_DESCRIPTORS_FOR_US = 64
DESCRIPTORS_FOR_A_SOCKET = 3  # a VM's connection, its socket, the client of that
DESCRIPTORS_FOR_A_RELAY = 5  # its connection, the relay's three files, a client
_ADDRESS = re.compile(r"(telnets?)://(?:\[([^\]]+)\]|([^:/\[\]]*)):(\d{1,5})/?")
_LOGGED_REFUSALS = 20  # in one period
_PERIOD_SECONDS = 10.0
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_PAUSE_SECONDS = 1.0  # of accepting, when there is none


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface."""

    tls: bool
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"telnet{'s' if self.tls else ''}://{host}:{self.port}"


def read_address(text: str) -> Address:
    """Read telnet[s]://HOST:PORT. Raises ListenError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[4]) > 0xFFFF:
        raise ListenError(
            f"{text!r} is no address to listen on.",
            expected="telnet://HOST:PORT or telnets://HOST:PORT; IPv6 as [::]",
        )
    return Address(match[1] == "telnets", match[2] or match[3], int(match[4]))


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return the context of a server with this certificate (PEM). Raises ListenError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # hosts stay connected; nothing is to be kept for the next time
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise ListenError(
            f"The certificate {certificate} cannot be used: {error}.",
            expected="a certificate chain and its unencrypted key, both in PEM",
            hint="Name the key with --key when it is in another file.",
        ) from error
    return context


def new_secret() -> bytes:
    """Return a secret for a vMotion, without 0xFF (see c_vspc.SECRET_BYTES)."""
    secret = b""
    while len(secret) < SECRET_BYTES:
        secret += os.urandom(SECRET_BYTES).replace(bytes([IAC]), b"")
    return secret[:SECRET_BYTES]


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class Server:
    """Serve the VMs that connect to `addresses`, until the loop is stopped.

    `backend` makes what is behind each line; `context` is needed for telnets addresses.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        backend: Backend,
        allow: AllowList,
        loop: Loop,
        *,
        context: ssl.SSLContext | None,
        log: Log,
        secret: Callable[[], bytes] = new_secret,
        descriptors_for_a_vm: int = DESCRIPTORS_FOR_A_SOCKET,
    ) -> None:
        """Raises ListenError."""
        self._loop = loop
        self._log = log
        self._allow = allow
        self._context = context
        self.capacity = (raise_descriptor_limit() - _DESCRIPTORS_FOR_US) // descriptors_for_a_vm
        self._registry = Registry(
            backend, allow, loop, secret=secret, log=self._note, max_lines=self.capacity
        )
        self._connections: set[Connection] = set()
        self._refused = 0  # in this period
        self._listeners: list[socket.socket] = []
        self.addresses: list[Address] = []
        try:
            for address in addresses:
                self._listen(address)
        except BaseException:
            self.close()
            raise

    def _listen(self, address: Address) -> None:
        if address.tls and self._context is None:
            raise ListenError(
                f"There is no certificate for {address}.",
                expected="a certificate and its key for telnets",
                hint="Give --certificate and --key.",
            )
        try:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            listener = socket.create_server(
                (address.host, address.port),
                family=family,
                backlog=_BACKLOG,
                dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            raise ListenError(
                f"{address} cannot be listened on: {error.strerror or error}.",
                expected="an address of this machine and a port that nobody else uses",
            ) from error
        listener.setblocking(False)
        self._listeners.append(listener)
        bound = Address(address.tls, address.host, listener.getsockname()[1])
        self.addresses.append(bound)
        context = self._context if address.tls else None
        self._watch(listener, context)
        self._log(Notice(f"Listening on {bound}"))
        if not address.tls:
            text = f"{bound} is not encrypted: anyone on the path can read and change what VMs say"
            self._log(
                Notice(f"{text}. Use telnets where the network is not trusted.", warning=True)
            )

    def _watch(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        if listener in self._listeners:
            descriptor = listener.fileno()
            self._loop.watch(descriptor, READABLE, lambda _: self._accept(listener, context))

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, peer = listener.accept()
            except OSError as error:  # nobody more, or gone again
                if error.errno in _NO_DESCRIPTOR:  # and so it would be said for ever
                    self._loop.forget(listener.fileno())
                    again = self._loop.now() + _PAUSE_SECONDS
                    self._loop.call_at(again, lambda: self._watch(listener, context))
                return
            address = peer[0]
            if self._allow.judge(Claims(address)) is Verdict.NO:
                self._note(Notice(f"{address} is not allowed by any rule", warning=True))
                accepted.close()
                continue
            if len(self._connections) >= self.capacity:
                full = f"{self.capacity} connections are open, which the descriptor limit allows"
                self._note(Notice(f"{address} is refused: {full}", warning=True))
                accepted.close()
                continue
            try:
                connection = Connection(
                    accepted,
                    address,
                    self._loop,
                    self._registry,
                    context=context,
                    gone=self._connections.discard,
                    log=self._note,
                )
            except OSError:
                accepted.close()
                continue
            self._connections.add(connection)

    def _note(self, notice: Notice) -> None:
        """Log; but of warnings, which strangers can cause at will, only so many in a while."""
        if notice.warning:
            self._refused += 1
            if self._refused == 1:
                self._loop.call_at(self._loop.now() + _PERIOD_SECONDS, self._sum_up)
            if self._refused > _LOGGED_REFUSALS:
                return
        self._log(notice)

    def _sum_up(self) -> None:
        more, self._refused = self._refused - _LOGGED_REFUSALS, 0
        if more > 0:
            text = f"{more} more warnings in the last {_PERIOD_SECONDS:.0f} s are not shown"
            self._log(Notice(text, warning=True))

    def close(self) -> None:
        """Close every connection and stop listening."""
        for listener in self._listeners:
            self._loop.forget(listener.fileno())
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            connection.abort()
        self._registry.close()
