"""One file over HTTP to where a lease says. Knows HTTP and nothing of leases.

The file's length is said beforehand: hosts do not take chunked bodies.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import BinaryIO
from urllib.parse import urlsplit

from converter.errors import HypervisorError
from converter.vsphere.c_vsphere import ANY_HOST, HTTP_PORT, HTTPS_PORT, STREAM_DISK_TYPE
from converter.vsphere.settings import Settings
from converter.vsphere.trust import Trust, read_thumbprint

_PIECE_BYTES = 1 << 20
# A host answers when the disk is on the datastore; a thick one may take it minutes to fill.
_ANSWER_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a disk is to be sent, and who is believed to be there."""

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


def send_disk(
    to: Destination,
    file: BinaryIO,
    size_bytes: int,
    *,
    timeout_seconds: float,
    told: Callable[[int], None],
) -> None:
    """Send `size_bytes` of `file`, a streamOptimized disk, from its beginning.

    `told` is called with how many bytes have gone. Raises OSError and HTTPException when the
    connection breaks, HypervisorError when the host refuses the disk.
    """
    connection = _connection(to, timeout_seconds)
    try:
        connection.putrequest("POST", to.target, skip_accept_encoding=True)
        connection.putheader("Content-Type", STREAM_DISK_TYPE)
        connection.putheader("Content-Length", str(size_bytes))
        connection.endheaders()
        try:
            _send(connection, file, size_bytes, told)
        except OSError:
            # A host that refuses says so and closes: what it says counts for more.
            with suppress(OSError, HTTPException):
                _judge(connection.getresponse(), to)
            raise
        connection.sock.settimeout(_ANSWER_SECONDS)
        _judge(connection.getresponse(), to)
    finally:
        connection.close()


def _connection(to: Destination, timeout_seconds: float) -> HTTPConnection:
    if not to.is_encrypted:
        return HTTPConnection(to.host, to.port, timeout=timeout_seconds)
    context: ssl.SSLContext = to.trust.context()
    return HTTPSConnection(to.host, to.port, timeout=timeout_seconds, context=context)


def _send(
    connection: HTTPConnection, file: BinaryIO, size_bytes: int, told: Callable[[int], None]
) -> None:
    file.seek(0)
    sent = 0
    while sent < size_bytes:
        piece = file.read(min(_PIECE_BYTES, size_bytes - sent))
        if not piece:
            raise AssertionError(f"a disk of {size_bytes} bytes ends at {sent}")
        connection.send(piece)
        sent += len(piece)
        told(sent)


def _judge(answer: HTTPResponse, to: Destination) -> None:
    answer.read(_PIECE_BYTES)
    if not 200 <= answer.status < 300:
        raise HypervisorError(
            f"The host {to} refused the disk: {answer.status} {answer.reason}.",
            hint="The host's hostd and vmkernel logs say why; often its datastore is full.",
            cause="upload-refused",
        )
