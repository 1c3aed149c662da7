"""The kernel's announcements of devices: the one way to wait for hardware here.

Owns the netlink socket. What an event says is not read: it only means that looking again is worth
while. Polling for a device node would be wrong, not only slow: devtmpfs makes a disk's node before
the disk can be opened (ENXIO); at its uevent it can.
"""

from __future__ import annotations

import select
import time

from agent import bare_socket as socket
from agent.hints import Callable, List, Optional, TypeVar
from agent.tether import c_linux

# A few thousand announcements; the driver loads of a start make some dozens before we read any.
RECEIVE_BUFFER_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 8192

Found = TypeVar("Found")


class UeventListener:
    """A subscription to the kernel's uevents. Open it before the driver is loaded."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM, c_linux.NETLINK_KOBJECT_UEVENT
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.bind((0, c_linux.UEVENT_GROUP_KERNEL))

    def __enter__(self) -> UeventListener:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def wait_until(
        self, look: Callable[[], Optional[Found]], timeout_seconds: float
    ) -> Optional[Found]:
        """Call `look` now and after each uevent until it finds something; None after the time.

        Looking at the system rather than at the events makes a lost or early event harmless.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = look()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return look()
            self._drain()

    def fileno(self) -> int:
        """Return what is readable when there are announcements."""
        return self._socket.fileno()

    def read(self) -> List[bytes]:
        """Return the announcements that wait; some may have been dropped before them."""
        found: List[bytes] = []
        while True:
            try:
                found.append(self._socket.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS
                continue

    def _drain(self) -> None:
        """Read what is queued: one look serves all of it."""
        while True:
            try:
                self._socket.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                return  # ENOBUFS: some were dropped; the look that follows does not mind
