"""What a VMware hypervisor asks of its guest (TCLO), over a virtual socket: shut down, above all.

Owns the requests and their answers, and the connection, which the hypervisor may cut at any time
(a vMotion does). It speaks first and gets one answer to each request; with that the machine counts
as one whose tools run, and its manager offers an orderly shutdown. Nothing is asked for in turns:
a guest to which nobody speaks sleeps.

Source: open-vm-tools, lib/rpcIn/rpcin.c, lib/rpcChannel, services/plugins/powerOps. Tried with a
hypervisor of the tests alone, never on ESXi.
"""

from __future__ import annotations

import select
import time

from agent import bare_socket as socket
from agent.hints import Callable, Dict, Optional, Tuple
from agent.tether import log
from agent.tether.c_rpci import (
    GUESTOS_STATECHANGE_HALT,
    GUESTOS_STATECHANGE_POWERON,
    GUESTOS_STATECHANGE_REBOOT,
    GUESTOS_STATECHANGE_RESUME,
    GUESTOS_STATECHANGE_SUSPEND,
    GUESTRPC_TCLO_VSOCK_LISTEN_PORT,
    LENGTH,
    REPLY_BYTES,
    TOOLS_VERSION_UNMANAGED,
)
from agent.tether.companion import Tell
from agent.tether.poller import Poller
from agent.tether.rpci import RpciError, connect_hypervisor, decode_packet, encode_packet

RETRY_SECONDS = 5.0  # doubled after each failure
RETRY_SECONDS_MAX = 300.0
_READ_BYTES = 65536

_CAPABILITIES = (
    "tools.set.version {}".format(TOOLS_VERSION_UNMANAGED),
    "tools.capability.statechange",
)
_STATES = {
    b"OS_Halt": GUESTOS_STATECHANGE_HALT,
    b"OS_Reboot": GUESTOS_STATECHANGE_REBOOT,
    b"OS_PowerOn": GUESTOS_STATECHANGE_POWERON,
    b"OS_Resume": GUESTOS_STATECHANGE_RESUME,
    b"OS_Suspend": GUESTOS_STATECHANGE_SUSPEND,
}


class GuestRequests:
    """A companion that answers. `call` makes a call to the hypervisor, `stop` ends the machine.

    `resumed` is called when the machine goes on after it stood still. `connect` returns a connected
    socket or raises OSError.
    """

    def __init__(
        self,
        call: Callable[[str], None],
        *,
        stop: Callable[[], None],
        resumed: Callable[[], None],
        connect: Optional[Callable[[], socket.socket]] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._connect = connect or _connect
        self._clock = clock
        self._actions: Dict[bytes, Callable[[], None]] = {b"OS_Halt": stop, b"OS_Resume": resumed}
        self._socket: Optional[socket.socket] = None
        self._poller: Optional[Poller] = None
        self._arrived = b""
        self._retry_at: Optional[float] = None
        self._pause = RETRY_SECONDS

    # --- a companion -----------------------------------------------------------------------------

    def attach(self, poller: Poller, _tell: Tell) -> None:
        """Connect, and have the loop wait for requests."""
        self._poller = poller
        self._open()

    def due(self) -> Optional[float]:
        """Return when to connect again, None while there is a connection."""
        return self._retry_at

    def tick(self, now: float) -> None:
        """Connect again when it is time."""
        if self._retry_at is not None and now >= self._retry_at:
            self._open()

    def take_end(self, _pid: int, _status: int) -> bool:
        """Return False: it has no children."""
        return False

    def repeat(self) -> None:
        """Do nothing: what it says is for the hypervisor."""

    # --- the connection --------------------------------------------------------------------------

    def _open(self) -> None:
        assert self._poller is not None
        self._arrived = b""
        try:
            self._socket = self._connect()
        except OSError as error:
            log.info("the hypervisor has no requests for us: {}".format(error))
            self._retry()
            return
        self._retry_at = None
        self._poller.watch(self._socket.fileno(), select.EPOLLIN, self._take)

    def _close(self) -> None:
        if self._socket is not None and self._poller is not None:
            self._poller.watch(self._socket.fileno(), 0, self._take)
            self._socket.close()
            self._socket = None
        self._retry()

    def _retry(self) -> None:
        self._retry_at = self._clock() + self._pause
        self._pause = min(RETRY_SECONDS_MAX, self._pause * 2)

    def _take(self, _mask: int) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._arrived += data
        try:
            while (request := self._next()) is not None:
                self._pause = RETRY_SECONDS
                self._answer(request)
        except (OSError, ValueError) as error:  # what it sends makes no sense, or it has gone
            log.error("a request of the hypervisor cannot be answered: {}".format(error))
            self._close()

    def _next(self) -> Optional[bytes]:
        """Return the next whole request that has arrived. Raises ValueError."""
        if len(self._arrived) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._arrived)
        if length > REPLY_BYTES:
            raise ValueError("a request of {} bytes".format(length))
        end = LENGTH.size + length
        if len(self._arrived) < end:
            return None
        content, self._arrived = self._arrived[LENGTH.size : end], self._arrived[end:]
        return decode_packet(content)

    # --- the requests ----------------------------------------------------------------------------

    def _answer(self, request: bytes) -> None:
        name = request.split(b" ", 1)[0].rstrip(b"\0")
        answer, calls = self._carry_out(name)
        assert self._socket is not None
        # Answers are a few bytes, one at a time: there is room for them.
        self._socket.sendall(encode_packet(answer))
        for call in calls:
            try:
                self._call(call)
            except RpciError as error:
                log.error("{}: {}".format(call.split(" ")[0], error))
        action = self._actions.get(name)
        if action is not None:
            log.info("the hypervisor says {}".format(name.decode("ascii")))
            action()

    def _carry_out(self, name: bytes) -> Tuple[bytes, Tuple[str, ...]]:
        """Return the answer to a request, and the calls that follow it."""
        if name == b"reset":
            return b"OK ATR toolbox", ()
        if name == b"Capabilities_Register":
            return b"OK ", _CAPABILITIES
        if name in _STATES:
            # A machine that starts anew would not find its document: it was erased.
            done = name != b"OS_Reboot"
            return b"OK ", ("tools.os.statechange.status {:d} {}".format(done, _STATES[name]),)
        if name in (b"ping", b"Set_Option"):
            return b"OK ", ()
        return b"Unknown Command", ()


def _connect() -> socket.socket:
    return connect_hypervisor(GUESTRPC_TCLO_VSOCK_LISTEN_PORT)
