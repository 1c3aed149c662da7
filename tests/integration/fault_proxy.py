"""A server between a client and a real registry that does what networks and bad servers do.

It hands requests on, keeps what was asked and how many bytes of each body it sent, and carries out
the fault that its plan names for a request.
"""

from __future__ import annotations

import enum
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import QuietServer, serving

TOKEN = "of-the-proxy"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all
_DRIP_SECONDS = 0.002


class Kind(enum.StrEnum):
    """What goes wrong. "at" is a byte of the body."""

    CUT = "connection closed at a byte"
    RESET = "connection reset at a byte"
    STALL = "nothing more after a byte"
    DRIP = "bytes one by one after a byte"
    TRICKLE = "bytes one by one without end"
    TRUNCATED = "a shorter body with its own length"
    LONG_LENGTH = "a length that is too large"
    SHORT_LENGTH = "a length that is too small"
    WRONG_BYTE = "a byte changed"
    NO_ANSWER = "connection closed without an answer"
    GARBAGE = "no HTTP at all"
    STATUS_500 = "500"
    STATUS_502 = "502"
    STATUS_503 = "503 with Retry-After"
    STATUS_429 = "429 with Retry-After"
    NOT_FOUND = "404"
    FORBIDDEN = "403"
    TOKEN_EXPIRED = "401, a new token wanted"
    REDIRECT = "redirect to another host"
    RANGE_REFUSED = "416"
    RANGE_IGNORED = "200 instead of 206"
    WRONG_RANGE = "206 of another part"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, at byte `at` of the body where that has a meaning."""

    kind: Kind
    at: int = 0


@dataclass
class Exchange:
    """One request and what came of it. `start` is what its Range asked for."""

    path: str
    start: int
    authorization: str | None
    fault: Fault | None = None
    status: int = 0
    sent_bytes: int = 0


@dataclass
class FaultProxy:
    """A server at `host`; `plan` is asked for each request, with a lock held, in their order."""

    host: str
    elsewhere: str = ""  # another proxy's host, for redirects
    plan: Callable[[Exchange], Fault | None] = lambda _exchange: None
    exchanges: list[Exchange] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, exchange: Exchange) -> None:
        """Keep a request and decide what goes wrong with it."""
        with self._lock:
            exchange.fault = self.plan(exchange)
            self.exchanges.append(exchange)

    def blobs(self) -> list[Exchange]:
        """Return the requests for blobs so far."""
        with self._lock:
            return [exchange for exchange in self.exchanges if "/blobs/" in exchange.path]


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Serve on a free port of 127.0.0.1, in front of the registry at `upstream`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/token"):
                self._plain(200, b'{"token": "%s"}' % TOKEN.encode())
                return
            exchange = Exchange(self.path, _start(self), self.headers.get("Authorization"))
            proxy.begin(exchange)
            fault = exchange.fault
            kind = None if fault is None else fault.kind
            if fault is None or not self._refuse(exchange, fault.kind):
                self._hand_on(exchange, kind, 0 if fault is None else fault.at)

        def _refuse(self, exchange: Exchange, kind: Kind) -> bool:
            headers: dict[str, str] = {}
            match kind:
                case Kind.NO_ANSWER:
                    self.close_connection = True
                    return True
                case Kind.GARBAGE:
                    self.wfile.write(b"\x15\x03\x01\x00\x02\x02\x0a" * 3)
                    self.close_connection = True
                    return True
                case Kind.STATUS_500 | Kind.STATUS_502:
                    status = int(kind.value)
                case Kind.STATUS_503 | Kind.STATUS_429:
                    status, headers = int(kind.value[:3]), {"Retry-After": "1"}
                case Kind.NOT_FOUND:
                    status = 404
                case Kind.FORBIDDEN:
                    status = 403
                case Kind.TOKEN_EXPIRED:
                    realm = f'Bearer realm="http://{proxy.host}/token",service="x"'
                    status, headers = 401, {"WWW-Authenticate": realm}
                case Kind.REDIRECT:
                    target = f"http://{proxy.elsewhere}{self.path}"
                    status, headers = 307, {"Location": target}
                case Kind.RANGE_REFUSED if exchange.start:
                    status = 416
                case _:
                    return False
            exchange.status = status
            self._plain(status, b"{}", headers)
            return True

        def _hand_on(self, exchange: Exchange, kind: Kind | None, at: int) -> None:
            headers = {name: text for name, text in self.headers.items() if name != "Host"}
            headers.pop("Authorization", None)  # tokens here are the proxy's
            if kind is Kind.RANGE_IGNORED:
                headers.pop("Range", None)
            if kind is Kind.WRONG_RANGE and exchange.start:
                headers["Range"] = f"bytes={exchange.start // 2}-"
            connection = http.client.HTTPConnection(upstream, timeout=20)
            try:
                connection.request("GET", self.path, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            exchange.status = answer.status
            announced = len(body)
            if kind is Kind.TRUNCATED:
                body = body[:at]
                announced = len(body)
            elif kind is Kind.LONG_LENGTH:
                announced += 1 + at
            elif kind is Kind.SHORT_LENGTH:
                announced = min(at, len(body))
            elif kind is Kind.WRONG_BYTE and body:
                at = min(at, len(body) - 1)
                body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name not in {"Content-Length", "Date", "Connection"}:
                    self.send_header(name, text)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self._send(exchange, kind, memoryview(body), at)
            # What stands behind the announced length is not the body's, and nobody can read it.
            exchange.sent_bytes = min(exchange.sent_bytes, announced)

        def _send(self, exchange: Exchange, kind: Kind | None, body: memoryview, at: int) -> None:
            stops = {Kind.CUT, Kind.RESET, Kind.STALL, Kind.DRIP, Kind.TRICKLE}
            first = at if kind in stops else len(body)
            self._write(exchange, body[:first])
            rest = body[first:]
            if kind is Kind.DRIP:
                slow = min(len(rest), 50)
                for number in range(slow):
                    self._write(exchange, rest[number : number + 1])
                    proxy.closing.wait(_DRIP_SECONDS)
                self._write(exchange, rest[slow:])
            elif kind is Kind.TRICKLE:
                for number in range(len(rest)):
                    if proxy.closing.wait(0.05):
                        break
                    self._write(exchange, rest[number : number + 1])
            elif kind is Kind.STALL and rest:
                self._until_the_client_goes()
            if kind is Kind.RESET and rest:
                abrupt.add(self.connection)
            if (kind in stops and rest) or kind in {Kind.LONG_LENGTH, Kind.SHORT_LENGTH}:
                self.close_connection = True

        def _write(self, exchange: Exchange, data: memoryview) -> None:
            if data:
                self.connection.sendall(data)
                exchange.sent_bytes += len(data)

        def _until_the_client_goes(self) -> None:
            self.connection.settimeout(0.05)
            deadline = time.monotonic() + 20
            while not proxy.closing.is_set() and time.monotonic() < deadline:
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    continue

        def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    abrupt: set[socket.socket] = set()

    class Server(QuietServer):
        def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
            if isinstance(request, socket.socket) and request in abrupt:
                abrupt.discard(request)
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                request.close()
            else:
                super().shutdown_request(request)

    with serving(Handler, Server) as host:
        proxy = FaultProxy(host)
        try:
            yield proxy
        finally:
            proxy.closing.set()


def _start(handler: BaseHTTPRequestHandler) -> int:
    asked = handler.headers.get("Range", "")
    return int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
