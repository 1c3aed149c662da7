"""What a VMware hypervisor asks of its guest (TCLO), and what the guest does and says then.

Owns the requests and their answers; no line and no clock. With these a machine counts as one whose
tools run, and its manager offers an orderly shutdown and restart.

Source: open-vm-tools, lib/rpcChannel/rpcChannel.c, services/plugins/powerOps, services/vmtoolsd.
"""

from __future__ import annotations

from agent.hints import Callable, Dict, Tuple
from agent.tether import log
from agent.tether.appearance import Appearance
from agent.tether.c_rpci import (
    GUESTOS_STATECHANGE_HALT,
    GUESTOS_STATECHANGE_POWERON,
    GUESTOS_STATECHANGE_REBOOT,
    GUESTOS_STATECHANGE_RESUME,
    GUESTOS_STATECHANGE_SUSPEND,
    TOOLS_TYPE_OVT,
    TOOLS_VERSION_UNMANAGED,
)
from agent.tether.rpci import RefusalError, RpciError

_CAPABILITIES = (
    b"vmx.capability.unified_loop toolbox",
    b"tools.capability.statechange ",
    b"tools.capability.softpowerop_retry ",
)
_VERSION = b"tools.set.versiontype %d %d" % (TOOLS_VERSION_UNMANAGED, TOOLS_TYPE_OVT)
_OLD_VERSION = b"tools.set.version %d" % TOOLS_VERSION_UNMANAGED  # of hypervisors before types
_STATES = {
    b"OS_Halt": GUESTOS_STATECHANGE_HALT,
    b"OS_Reboot": GUESTOS_STATECHANGE_REBOOT,
    b"OS_PowerOn": GUESTOS_STATECHANGE_POWERON,
    b"OS_Resume": GUESTOS_STATECHANGE_RESUME,
    b"OS_Suspend": GUESTOS_STATECHANGE_SUSPEND,
}
_OK = b"OK "

Call = Callable[[bytes], None]
Power = Callable[[], bool]


class Tclo:
    """The guest's side of the dialogue.

    `call` makes a call to the hypervisor, and raises RpciError. `stop` ends the machine, `restart`
    begins its process anew; each says whether it will. `resumed` is called when the machine goes on
    after it stood still.
    """

    def __init__(
        self,
        call: Call,
        appearance: Appearance,
        *,
        stop: Power,
        restart: Power,
        resumed: Callable[[], None],
    ) -> None:
        self._call = call
        self._appearance = appearance
        self._resumed = resumed
        self._powers: Dict[bytes, Power] = {b"OS_Halt": stop, b"OS_Reboot": restart}

    def take(self, request: bytes) -> Tuple[bytes, Callable[[], None]]:
        """Return the answer to a request, and what is to be done when it was given. Never fails."""
        name, _, rest = request.rstrip(b"\0").partition(b" ")
        if name == b"reset":
            return b"OK ATR toolbox", _nothing
        if name == b"ping":
            return _OK, _nothing
        if name == b"Capabilities_Register":
            return _OK, self._register
        if name == b"Set_Option":
            wants_address = rest == b"broadcastIP 1"
            return _OK, self._appearance.tell_address if wants_address else _nothing
        if name == b"Time_Synchronize":
            return _OK, self._go_on
        if name in _STATES:
            return _OK, lambda: self._change_state(name)
        return b"ERROR Unknown Command", _nothing

    def _register(self) -> None:
        for request in _CAPABILITIES:
            self._say(request)
        try:
            self._call(_VERSION)
        except RefusalError:
            self._say(_OLD_VERSION)
        except RpciError as error:
            log.error("the hypervisor is not told that its tools run: {}".format(error))
        self._appearance.tell_all()

    def _change_state(self, name: bytes) -> None:
        log.info("the hypervisor says {}".format(name.decode("ascii")))
        power = self._powers.get(name)
        done = power is None or power()
        self._say(b"tools.os.statechange.status %d %d" % (done, _STATES[name]))
        if name == b"OS_Resume":
            self._go_on()

    def _go_on(self) -> None:
        self._resumed()
        self._appearance.tell_all()

    def _say(self, request: bytes) -> None:
        try:
            self._call(request)
        except RpciError as error:
            log.error("{}: {}".format(request.decode("ascii"), error))


def _nothing() -> None:
    """Do nothing: the answer was all."""
