"""Which descriptors the loop waits on, and whom it calls when they are ready.

Owns the epoll object. A handler may be called for nothing, for a descriptor that was closed and
opened again within one turn: handlers look, and never block.
"""

from __future__ import annotations

import select

from agent.hints import Callable, Dict, Tuple

Handler = Callable[[int], None]


class Poller:
    """An epoll object whose descriptors have handlers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: Dict[int, Tuple[int, Handler]] = {}

    def watch(self, descriptor: int, mask: int, handler: Handler) -> None:
        """Call `handler` with the events of `mask` that come; a mask of 0 ends it.

        To be ended before the descriptor is closed.
        """
        before = self._watched.get(descriptor)
        if not mask:
            if before is not None:
                self._epoll.unregister(descriptor)
                del self._watched[descriptor]
            return
        if before is None:
            self._epoll.register(descriptor, mask)
        elif before[0] != mask:
            self._epoll.modify(descriptor, mask)
        self._watched[descriptor] = (mask, handler)

    def wait(self, timeout_seconds: float) -> None:
        """Wait for events, at most so long, and call their handlers."""
        for descriptor, mask in self._epoll.poll(timeout_seconds):
            watched = self._watched.get(descriptor)
            if watched is not None:
                watched[1](mask)

    def close(self) -> None:
        """Close the epoll object."""
        self._epoll.close()
