"""The connections below requests. Owns what its timeouts leave out.

A read timeout bounds the wait for the next bytes, and headers are read line by line: a server that
sends one byte of them now and then would never be given up. And whoever is interrupted does not
want to wait for a timeout at all, but a thread that reads cannot be told to stop: its line is cut.
"""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.response

_POOL_CONNECTIONS = 32  # of one host that are kept; there may be more


class Lines:
    """The sockets of all connections of an adapter, which any thread may cut."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.are_cut = False

    def add(self, line: socket.socket) -> None:
        """Know of a connection that was just made."""
        with self._lock:
            self._sockets.add(line)
            if self.are_cut:
                _shut(line)

    def cut(self) -> None:
        """Let whoever waits for one of them find it closed, now and from now on."""
        with self._lock:
            self.are_cut = True
            for line in self._sockets:
                _shut(line)


def _shut(line: socket.socket) -> None:
    with suppress(OSError, AttributeError, TypeError):  # it may just have ended
        # TLS has a shutdown of its own, which is not made for other threads.
        socket.socket.shutdown(line, socket.SHUT_RDWR)


class _Watch(urllib3.connection.HTTPConnection):
    """A connection whose answer's headers must be there in twice the read timeout."""

    lines: Lines  # of the adapter, which makes a class of its own

    def connect(self) -> None:
        super().connect()
        self.lines.add(self.sock)

    def getresponse(self) -> urllib3.response.HTTPResponse:  # type: ignore[override]  # urllib3's
        # The pool has set the read timeout here; the socket itself still has that of connecting.
        seconds = self.timeout
        if not isinstance(seconds, (int, float)):
            return super().getresponse()
        expired = threading.Event()

        def hang_up() -> None:
            expired.set()
            _shut(self.sock)

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


def _pools(lines: Lines) -> dict[str, type[urllib3.connectionpool.HTTPConnectionPool]]:
    """Return the classes of pools whose connections are among `lines`; urllib3 makes both."""
    own = {"lines": lines}

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = type("Connection", (_Watch,), own)

    class TLSPool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = type("TLSConnection", (_WatchedHTTPSConnection,), own)

    return {"http": Pool, "https": TLSPool}


class Adapter(requests.adapters.HTTPAdapter):
    """Make connections that are watched, directly and through proxies; repeat nothing."""

    def __init__(self) -> None:
        self.lines = Lines()
        self._pools = _pools(self.lines)
        super().__init__(
            max_retries=0, pool_connections=_POOL_CONNECTIONS, pool_maxsize=_POOL_CONNECTIONS
        )

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: object
    ) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: object) -> urllib3.ProxyManager:
        """Return the pools of connections through a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager
