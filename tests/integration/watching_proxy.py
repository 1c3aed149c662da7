"""A proxy in front of a registry: knows every request before it is answered, and may answer itself.

A reverse proxy in this process: what it counts is exact, for a request is noted before the registry
sees it. Bodies are held whole, so it is for small images.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import serving

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    size_bytes: int  # of its body
    authorization: str | None

    @property
    def sends_blob(self) -> bool:
        """Whether it is the upload of a blob, not just the question whether one is there."""
        return self.method in {"PUT", "PATCH"} and "/blobs/uploads/" in self.path


@dataclass(frozen=True, slots=True)
class Reply:
    """What the proxy says in the registry's place; a status of 0 hangs up."""

    status: int
    body: bytes = b""
    challenge: str = ""


@dataclass
class WatchingProxy:
    """The proxy at `host`; `meddle` is asked about each request, and None lets it through."""

    host: str
    asked: list[Asked] = field(default_factory=list)
    meddle: Callable[[Asked], Reply | None] = lambda _asked: None

    def paths(self, method: str, part: str) -> list[str]:
        """Return the paths of requests of that method that have `part` in them."""
        return [one.path for one in self.asked if one.method == method and part in one.path]

    def blobs_sent(self) -> int:
        """Return how many uploads there were."""
        return sum(one.sends_blob for one in self.asked)


@contextmanager
def watching_proxy(backend: str) -> Iterator[WatchingProxy]:
    """Stand in front of the registry at `backend` (host:port) until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, len(body), self.headers.get("Authorization"))
            proxy.asked.append(asked)
            reply = proxy.meddle(asked)
            if reply is None:
                self._forward(body)
            elif reply.status == 0:
                self.close_connection = True
            else:
                headers = {"Content-Type": "application/json"}
                if reply.challenge:
                    headers["WWW-Authenticate"] = reply.challenge
                self._answer(reply.status, headers, reply.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - its names

        def _forward(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(backend, timeout=60)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, text in self.headers.items():  # some send several of a name
                    if name.lower() not in _HOP_BY_HOP:
                        connection.putheader(name, text)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body or None)
                response = connection.getresponse()
                self._answer(response.status, dict(response.getheaders()), response.read())
            finally:
                connection.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            for name, text in headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, text)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with serving(Handler) as host:
        proxy = WatchingProxy(host)
        yield proxy
