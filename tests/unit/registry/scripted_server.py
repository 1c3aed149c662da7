"""A real HTTP server on loopback that answers by a script, for what no proper registry does."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import serving


@dataclass(frozen=True)
class Request:
    """What the client asked for."""

    path: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What the server does; `cut_bytes` ends the connection before the last bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_bytes: int = 0
    stall: threading.Event | None = None  # wait for it before answering


@dataclass
class ScriptedServer:
    """`answer` is called for each request; all requests are kept in order."""

    host: str
    answer: Callable[[Request], Answer] = lambda _request: Answer(404)
    requests: list[Request] = field(default_factory=list)

    def paths(self) -> list[str]:
        """Return the paths (with queries) that were asked for."""
        return [request.path for request in self.requests]


@contextmanager
def scripted_server(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Serve on a free port of 127.0.0.1 until the block ends, over TLS if a context is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): text for name, text in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            request = Request(self.path, headers, self.command, body)
            script.requests.append(request)
            answer = script.answer(request)
            if answer.stall:
                answer.stall.wait(20)
            self.send_response(answer.status)
            for name, text in answer.headers.items():
                self.send_header(name, text)
            own_length = "Content-Length" in answer.headers
            if not own_length:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: len(answer.body) - answer.cut_bytes])
            self.close_connection = answer.cut_bytes > 0 or own_length

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

    with serving(Handler, tls=tls) as host:
        script = ScriptedServer(host)
        yield script
