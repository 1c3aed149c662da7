"""A small HTTP proxy of the tests: CONNECT for https, whole URLs for http. It keeps who asked."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.loopback import serving


@dataclass
class ForwardProxy:
    """A proxy at `url`; `targets` are the methods and hosts that it was asked for."""

    url: str
    targets: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """Serve on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            self._keep(self.path)
            host, port = self.path.split(":")
            with socket.create_connection((host, int(port)), timeout=20) as there:
                self.send_response(200)
                self.end_headers()
                ends = {self.connection: there, there: self.connection}
                while readable := select.select(list(ends), [], [], 20)[0]:
                    for end in readable:
                        data = end.recv(1 << 16)
                        if not data:
                            self.close_connection = True
                            return
                        ends[end].sendall(data)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._keep(parts.netloc)
            connection = http.client.HTTPConnection(parts.netloc, timeout=20)
            try:
                target = f"{parts.path}?{parts.query}" if parts.query else parts.path
                connection.request("GET", target, headers=dict(self.headers))
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name != "Content-Length":
                    self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _keep(self, host: str) -> None:
            proxy.targets.append((self.command, host))
            proxy.headers.append(dict(self.headers))

    with serving(Handler) as host:
        proxy = ForwardProxy(f"http://{host}")
        yield proxy
