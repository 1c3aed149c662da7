"""HTTP servers of tests, on loopback and in this process. Owns their silence and their end."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_POLL_SECONDS = 0.01  # what a shutdown waits for at the most


class QuietServer(ThreadingHTTPServer):
    """A server to which it is nothing that a client leaves early, or is killed."""

    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Do nothing: that is a part of tests."""


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler],
    kind: type[QuietServer] = QuietServer,
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Yield host:port of a server on a free port of 127.0.0.1 that ends with the block.

    It has no log: what a test wants to know, its `handler` keeps.
    """
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_arguments: None})
    with kind(("127.0.0.1", 0), quiet) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[_POLL_SECONDS])
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
