"""guestinfo, the variables that a VMware guest shares with its manager: config in, status out.

Owns their names and the form of their values. A hypervisor that has none costs nothing but a line
in the log: what happens over the channel to the host does not depend on this.
"""

from __future__ import annotations

from agent import bare_json as json
from agent.bare_tools import partial
from agent.hints import Callable, List, Mapping, Optional, Sequence
from agent.tether import log, vmx_socket
from agent.tether.backdoor import Ports, open_backdoor
from agent.tether.c_rpci import (
    GUESTRPC_RPCI_VSOCK_LISTEN_PORT,
    GUESTRPC_TCLO_VSOCK_LISTEN_PORT,
)
from agent.tether.errors import StartError
from agent.tether.modules import VSOCK_DRIVERS, Loader, PciId, drivers_for
from agent.tether.rpci import BackdoorWay, RefusalError, Rpci, RpciError, SocketWay
from agent.tether.tclo_lines import BackdoorLine, SocketLine, TcloLine

CONFIG = "guestinfo.saltflat.config"
OVF_ENVIRONMENT = "guestinfo.ovfEnv"  # written by vCenter at each power-on
OVF_DOCUMENT = b"saltflat.config"  # the property that ours has
STATUS = "guestinfo.saltflat.status"
NETWORK = "guestinfo.saltflat.network"
TAKEN = b"-"  # what stands for a document that was taken: an empty value cannot be set everywhere
SCHEMA = 1


class GuestInfo:
    """The variables, over one channel."""

    def __init__(self, rpci: Rpci) -> None:
        self._rpci = rpci

    def get(self, name: str) -> Optional[bytes]:
        """Return a variable; None when it is not set. Raises RpciError."""
        try:
            return self._rpci.call(b"info-get " + name.encode("ascii"))
        except RefusalError as error:
            if "no value" in str(error).lower():
                return None
            raise

    def set(self, name: str, value: bytes) -> None:
        """Set a variable. Raises RpciError."""
        self._rpci.call(b"info-set " + name.encode("ascii") + b" " + value)

    def call(self, request: bytes) -> None:
        """Make a call whose answer says nothing. Raises RpciError."""
        self._rpci.call(request)

    def source(self) -> GuestInfoSource:
        """Return the variable that holds the document."""
        return GuestInfoSource(self)

    def report(self, message: Mapping[str, object]) -> None:
        """Write how the main process ended, for a manager that no relay tells. Never fails.

        The value is the control message of that type (docs/protocol.md) with a `schema`.
        """
        self._write(STATUS, message)

    def report_network(self, message: Mapping[str, object]) -> None:
        """Write which addresses there are, in the same form. Never fails."""
        self._write(NETWORK, message)

    def _write(self, name: str, message: Mapping[str, object]) -> None:
        text = json.dumps({"schema": SCHEMA, **message}, separators=(",", ":"))
        try:
            self.set(name, text.encode("ascii"))
        except RpciError as error:
            log.error("{} could not be set: {}".format(name, error))


class GuestInfoSource:
    """The document in guestinfo, as sources.ConfigSource; replaced by a dash when it was read.

    That is CONFIG, or else an OVF environment with properties of ours. Another one comes as CONFIG.
    """

    renews = True

    def __init__(self, guestinfo: GuestInfo) -> None:
        self._guestinfo = guestinfo
        self._name = CONFIG

    def read(self) -> bytes:
        """Return the document's bytes; StartError("config") when there is none."""
        for name in (CONFIG, OVF_ENVIRONMENT):
            try:
                found = self._guestinfo.get(name)
            except RpciError as error:
                raise StartError("config", "{} cannot be read: {}".format(name, error)) from error
            if found is None or _is_taken(found):
                continue
            # Whoever has made the machine may have properties for others in it.
            if name == CONFIG or OVF_DOCUMENT in found:
                self._name = name
                return found
        raise StartError("config", "{} is not set".format(CONFIG))

    def forget(self) -> None:
        """Replace it: every process of this guest could read it."""
        self._forget(self._name)

    def _forget(self, name: str) -> None:
        try:
            self._guestinfo.set(name, TAKEN)
        except RpciError as error:
            log.error("{} could not be replaced: {}".format(name, error))

    def look_again(self) -> Optional[bytes]:
        """Return a document that was put there since; None when none was, or nobody answers."""
        try:
            found = self._guestinfo.get(CONFIG)
        except RpciError:
            return None
        if found is None or _is_taken(found):
            return None
        self._forget(CONFIG)
        return found


def _is_taken(value: bytes) -> bool:
    return value.strip(b" \0") in (b"", TAKEN)


class Hypervisor:
    """The two ways to the hypervisor, and what is to be had by them."""

    def __init__(self, find_backdoor: Callable[[], Optional[Ports]] = open_backdoor) -> None:
        self._find = find_backdoor
        self._ports: List[Optional[Ports]] = []  # what was found, once somebody has looked
        connect = partial(vmx_socket.connect, GUESTRPC_RPCI_VSOCK_LISTEN_PORT)
        self.guestinfo = GuestInfo(Rpci((SocketWay(connect), BackdoorWay(self.find_backdoor))))

    def find_backdoor(self) -> Optional[Ports]:
        """Return the backdoor's ports, None where there is none. A child looks, the first time."""
        if not self._ports:
            self._ports.append(self._find())
        return self._ports[0]

    def open_line(self) -> TcloLine:
        """Return a line on which the hypervisor makes requests. Raises OSError."""
        try:
            return SocketLine(vmx_socket.connect(GUESTRPC_TCLO_VSOCK_LISTEN_PORT))
        except OSError:
            ports = self.find_backdoor()
            if ports is None:
                raise
        return BackdoorLine(ports)


def open_hypervisor(loader: Loader, ids: Sequence[PciId]) -> Hypervisor:
    """Return the ways to the hypervisor of a machine with these devices, their drivers loaded."""
    try:
        for name in drivers_for(ids, VSOCK_DRIVERS):
            loader.load(name)
    except StartError as error:
        log.error("no virtual sockets: {}".format(error.message))
    return Hypervisor()
