"""One disk over HTTP to where a lease says. Knows HTTP and nothing of leases.

A disk's length is said beforehand if it is known. If not it goes in chunks, which hosts need not
take.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from converter.errors import HypervisorError, SaltflatError
from converter.vsphere.c_vsphere import ANY_HOST, HTTP_PORT, HTTPS_PORT, STREAM_DISK_TYPE
from converter.vsphere.settings import Settings
from converter.vsphere.trust import Trust, read_thumbprint

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_PIECE_BYTES = 1 << 20
# A host answers when the disk is on the datastore; a thick one may take it minutes to fill.
_ANSWER_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a disk or file is to be sent, and who is believed to be there."""

    host: str
    port: int
    target: str  # path and query
    is_encrypted: bool
    trust: Trust

    def __str__(self) -> str:
        """Say which host it is, in an error."""
        return f"{self.host}:{self.port}"


def destination(url: str, thumbprint: str | None, settings: Settings) -> Destination:
    """Return where a lease's URL leads, for a session with `settings`.

    A host without vCenter names itself "*", which is where we are already; vCenter names one of its
    hosts and the thumbprint of that one's certificate, which vCenter's own authority need not have
    signed. Raises HypervisorError for a URL that is none, or that is less safe than the session.
    """
    parts, address = urlsplit(url), settings.address
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise HypervisorError(
            f"vSphere says that the disk is to go to {url[:200]!a}.", expected="a URL of a host"
        )
    is_encrypted = parts.scheme == "https"
    if not is_encrypted and address.scheme == "https":
        raise HypervisorError(
            f"vSphere wants the disk without encryption, at {parts.hostname}.", expected="https"
        )
    if parts.hostname == ANY_HOST:
        host, port = address.host, parts.port or address.port
    else:
        host, port = parts.hostname, parts.port or (HTTPS_PORT if is_encrypted else HTTP_PORT)
    trust = settings.trust
    if host != address.host and thumbprint:
        trust = Trust(thumbprints=(read_thumbprint(thumbprint),))
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Destination(host, port, target, is_encrypted, trust)


@dataclass(frozen=True, slots=True)
class Sent:
    """What went to a host: how much, and its SHA-1, which is what vSphere notes of it."""

    size_bytes: int
    sha1: str


def send_disk(
    to: Destination,
    write: Callable[[BinaryIO], None],
    size_bytes: int | None,
    *,
    timeout_seconds: float,
    told: Callable[[int], None],
) -> Sent:
    """Send what `write` writes to the file that it gets, a streamOptimized disk of `size_bytes`.

    With None for the size it goes in chunks. `told` is called with how many bytes have gone. Raises
    OSError and HTTPException when the connection breaks, HypervisorError when the host refuses the
    disk, and what `write` raises; an OSError of its own as a SaltflatError.
    """
    connection = open_http(to, timeout_seconds)
    try:
        connection.putrequest("POST", to.target, skip_accept_encoding=True)
        connection.putheader("Content-Type", STREAM_DISK_TYPE)
        if size_bytes is None:
            connection.putheader("Transfer-Encoding", "chunked")
        else:
            connection.putheader("Content-Length", str(size_bytes))
        connection.endheaders()
        body = _Body(connection, told, is_chunked=size_bytes is None)
        try:
            write(cast("BinaryIO", body))
            sent = body.finish()
        except OSError as error:
            if not body.is_broken:
                raise SaltflatError(f"The disk cannot be read here: {error}.") from error
            # A host that refuses says so and closes: what it says counts for more.
            with suppress(OSError, HTTPException):
                _judge(connection.getresponse(), to)
            raise
        if size_bytes not in (None, sent.size_bytes):
            raise AssertionError(f"a disk of {size_bytes} bytes has {sent.size_bytes}")
        connection.sock.settimeout(_ANSWER_SECONDS)
        _judge(connection.getresponse(), to)
        return sent
    finally:
        connection.close()


def open_http(to: Destination, timeout_seconds: float) -> HTTPConnection:
    """Return a connection, not yet made, to whom `to` names and to nobody else."""
    if not to.is_encrypted:
        return HTTPConnection(to.host, to.port, timeout=timeout_seconds)
    return HTTPSConnection(to.host, to.port, timeout=timeout_seconds, context=to.trust.context())


class _Body(io.RawIOBase):
    """A request's body as a file to write to. Gathers pieces, counts and hashes them."""

    def __init__(
        self, connection: HTTPConnection, told: Callable[[int], None], *, is_chunked: bool
    ) -> None:
        self.is_broken = False  # the connection, not what is sent
        self._connection = connection
        self._told = told
        self._is_chunked = is_chunked
        self._gathered = bytearray()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= _PIECE_BYTES and not self._gathered:
            self._send(view)  # as it is: a copy of a whole disk takes its time
        else:
            self._gathered += view
            if len(self._gathered) >= _PIECE_BYTES:
                self._send_gathered()
        return len(view)

    def finish(self) -> Sent:
        """Send what is left, and the end."""
        self._send_gathered()
        if self._is_chunked:
            self._to_line(b"0\r\n\r\n")
        return Sent(self._size_bytes, self._sha1.hexdigest())

    def _send_gathered(self) -> None:
        piece, self._gathered = self._gathered, bytearray()
        if piece:  # nothing would be the end, as a chunk
            self._send(piece)

    def _send(self, piece: bytearray | memoryview) -> None:
        self._sha1.update(piece)
        if self._is_chunked:
            self._to_line(b"%x\r\n" % len(piece))
        self._to_line(piece)
        if self._is_chunked:
            self._to_line(b"\r\n")
        self._size_bytes += len(piece)
        self._told(self._size_bytes)

    def _to_line(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._connection.send(data)
        except OSError:
            self.is_broken = True
            raise


def _judge(answer: HTTPResponse, to: Destination) -> None:
    answer.read(_PIECE_BYTES)
    if not 200 <= answer.status < 300:
        raise HypervisorError(
            f"The host {to} refused the disk: {answer.status} {answer.reason}.",
            hint="The host's hostd and vmkernel logs say why; often its datastore is full.",
            cause="upload-refused",
        )
