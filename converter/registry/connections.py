"""The connections below requests. Owns the one thing that its timeouts leave out.

A read timeout bounds the wait for the next bytes, and headers are read line by line: a server that
sends one byte of them now and then would never be given up.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.response

_POOL_CONNECTIONS = 32  # of one host that are kept; there may be more


class _Watch(urllib3.connection.HTTPConnection):
    """A connection whose answer's headers must be there in twice the read timeout."""

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # urllib3's
        # The pool has set the read timeout here; the socket itself still has that of connecting.
        seconds = self.timeout
        if not isinstance(seconds, (int, float)):
            return super().getresponse()
        expired = threading.Event()

        def hang_up() -> None:
            expired.set()
            with suppress(OSError, AttributeError):  # it may just have ended
                # TLS has a shutdown of its own, which is not made for other threads.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

        watchdog = threading.Timer(2 * seconds, hang_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            response = super().getresponse()
        finally:
            watchdog.cancel()
        if expired.is_set():  # http.client takes the end of the line for the end of the headers
            response.close()
            raise TimeoutError("the headers did not come to an end")
        return response


class _WatchedHTTPSConnection(_Watch, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Watch


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class Adapter(requests.adapters.HTTPAdapter):
    """Make connections that are watched, directly and through proxies; repeat nothing."""

    def __init__(self) -> None:
        super().__init__(
            max_retries=0, pool_connections=_POOL_CONNECTIONS, pool_maxsize=_POOL_CONNECTIONS
        )

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: object
    ) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: object) -> urllib3.ProxyManager:
        """Return the pools of connections through a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager
