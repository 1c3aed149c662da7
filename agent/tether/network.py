"""The machine's network from its start to its end: interfaces, leases, names, and who is told.

Owns the order of these; what is done to one interface is in `interfaces`. The process shares this
network with the agent, and has no right to change it unless the run gives it one.
"""

from __future__ import annotations

import select
import time

from agent import bare_socket as socket
from agent.bare_tools import partial
from agent.hints import Callable, Dict, List, Mapping, Optional, Tuple
from agent.tether import c_netlink, dhcp, log, modules, netlink
from agent.tether.advertised import AdvertisedNames
from agent.tether.companion import Tell
from agent.tether.config import Job
from agent.tether.dhcp import DhcpClient, Event
from agent.tether.errors import StartError
from agent.tether.interfaces import Card, find_cards
from agent.tether.leases import Lease, read_lease
from agent.tether.name_files import NameFiles
from agent.tether.netlink import RouteSocket
from agent.tether.network_files import Names
from agent.tether.poller import Poller
from agent.tether.uevents import UeventListener

CARRIER_SECONDS = 1.0  # for links to be there; one that is there needs some milliseconds
SETTLE_SECONDS = 0.2  # changes within that are told together
RETRY_SECONDS = 5.0  # before a message is tried again that the line did not take
MAX_TOLD = 16  # addresses of an interface
MAX_WARNING = 200  # letters

Report = Callable[[Mapping[str, object]], None]


class MachineNetwork:
    """The network that the job asks for; a companion of the supervisor once it is open.

    `report` is told what the host is told, whether or not a host is there. A context manager, which
    gives the leases back at the end.
    """

    def __init__(
        self,
        job: Job,
        *,
        report: Optional[Report] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files: Optional[NameFiles] = None
        self._config = job.network
        self._host_name = job.host_name
        self._report = report
        self._clock = clock
        self._cards: List[Card] = []
        self._kernel: Optional[RouteSocket] = None
        self._listener: Optional[socket.socket] = None
        self._advertised = AdvertisedNames()
        self._advertisements: Optional[socket.socket] = None
        self._tell: Optional[Tell] = None
        self._told: Optional[Mapping[str, object]] = None
        self._reported: Optional[Mapping[str, object]] = None
        self._look_at: Optional[float] = None

    def __enter__(self) -> MachineNetwork:
        return self

    def __exit__(self, *_exception: object) -> None:
        clients = [card.client for card in self._cards if card.client is not None]
        for client in clients:
            client.ask_to_end()
        for client in clients:
            client.close()
        for opened in (self._listener, self._advertisements, self._kernel):
            if opened is not None:
                opened.close()

    def needed_files(self) -> Tuple[str, ...]:
        """Return the files of the boot image that are needed for as long as the machine runs."""
        if any(interface.dhcp for interface in self._config.interfaces):
            return dhcp.needed_files()
        return ()

    # --- the start -------------------------------------------------------------------------------

    def open(self, files: NameFiles, loader: modules.ModuleLoader, events: UeventListener) -> None:
        """Load the drivers, find the interfaces, set them up, and start asking for leases.

        `files` are kept up to date from here on. Raises StartError("network") when an interface is
        not there or the kernel refuses what it shall have.
        """
        self._files = files
        for name in modules.drivers_for(modules.read_pci_ids(), modules.NETWORK_DRIVERS):
            loader.load(name)
        self._kernel = RouteSocket()
        self._listener = netlink.open_listener(
            c_netlink.RTMGRP_LINK | c_netlink.RTMGRP_IPV4_IFADDR | c_netlink.RTMGRP_IPV6_IFADDR
        )
        if any(interface.slaac for interface in self._config.interfaces):
            self._advertisements = netlink.open_listener(c_netlink.RTMGRP_ND_USEROPT)
        for card in find_cards(self._kernel, self._config.interfaces, events):
            self._cards.append(card)
            card.set_up()
            if card.wanted.dhcp:
                card.client = DhcpClient(card.name, self._host_name)
                card.client.start(self._clock())
        files.update(self._names())

    def wait(self) -> None:
        """Wait for the links, and for the leases that are asked for, as the document allows.

        What has not come does not keep the process from its start; the host is told.
        """
        self._wait_for_links()
        deadline = self._clock() + self._config.wait_seconds
        while True:
            waiting = [card for card in self._cards if card.client and card.lease is None]
            left = deadline - self._clock()
            if not waiting or left <= 0:
                break
            clients = [card.client for card in waiting if card.client is not None]
            due = [at for at in (client.due() for client in clients) if at is not None]
            next_at = min([deadline, *due]) - self._clock()
            ready = select.select(
                [client.descriptor for client in clients], [], [], max(0, next_at)
            )
            for card in waiting:
                self._take_events(card)
            if not ready[0]:
                for client in clients:
                    client.look_for_end(self._clock())
                self._restart(self._clock())
        for card in waiting:
            text = "{}: no DHCP server has given it an address within {:g} s; the client goes on"
            card.warning = card.warning or text.format(card.name, self._config.wait_seconds)
            log.error(card.warning)

    def _wait_for_links(self) -> None:
        """Wait until what is sent goes out: the kernel drops it before, and TCP waits a second."""
        deadline = self._clock() + CARRIER_SECONDS
        while True:
            down = self._cards_down()
            left = deadline - self._clock()
            if not down or left <= 0:
                break
            assert self._listener is not None
            select.select([self._listener], [], [], left)
            netlink.drain(self._listener)

    def _cards_down(self) -> List[Card]:
        if not self._cards or self._kernel is None:
            return []
        running = {link.index for link in self._kernel.links() if link.is_running}
        return [card for card in self._cards if card.index not in running]

    # --- leases ----------------------------------------------------------------------------------

    def _take_events(self, card: Card, _mask: int = 0) -> None:
        assert card.client is not None
        for event in card.client.read():
            self._take_event(card, event)

    def _take_event(self, card: Card, event: Event) -> None:
        kind = event.get("event", "")
        try:
            if kind in ("bound", "renew"):
                lease = read_lease(event)
                card.take(lease)
                log.info("{}: {} of {}".format(card.name, kind, lease.address.host))
                card.warning = ""
            elif kind == "deconfig":
                card.take(None)
            elif kind == "nak":
                self._warn(card, "the DHCP server has refused: " + event.get("message", ""))
            elif kind == "leasefail" and card.lease is None:
                self._warn(card, "no DHCP server has answered")
        except (ValueError, OSError) as error:
            self._warn(card, "the DHCP server's answer cannot be used: {}".format(error))
        self._names_changed()

    def _warn(self, card: Card, text: str) -> None:
        warning = "{}: {}".format(card.name, text)[:MAX_WARNING]
        if warning != card.warning:
            log.error(warning)
            card.warning = warning

    # --- names and news --------------------------------------------------------------------------

    def _take_advertisements(self, _mask: int = 0) -> None:
        assert self._advertisements is not None
        changes = 0
        for data in netlink.read_all(self._advertisements):
            changes += self._advertised.take(data, self._clock())
        if changes:
            self._names_changed()

    def _names_changed(self) -> None:
        if self._files is not None:
            self._files.update(self._names())
        self._look_soon()

    def _names(self) -> Names:
        addresses: List[str] = []
        servers: List[str] = []
        domains: List[str] = []
        for card in self._cards:
            addresses += [address.host for address in card.wanted.addresses]
            servers += card.wanted.name_servers
            domains += card.wanted.search_domains
            if card.lease is not None:
                addresses.append(card.lease.address.host)
                servers += card.lease.name_servers
                domains += card.lease.search_domains
            servers += self._advertised.name_servers(card.index, card.name)
            domains += self._advertised.search_domains(card.index)
        unique = (tuple(dict.fromkeys(words)) for words in (addresses, servers, domains))
        return Names(*unique)

    def describe(self) -> Dict[str, object]:
        """Return the control message that tells how things are (docs/protocol.md)."""
        assert self._kernel is not None
        found: Dict[int, List[str]] = {}
        for address in self._kernel.addresses():
            if address.usable and address.scope != c_netlink.RT_SCOPE_LINK:
                found.setdefault(address.index, []).append(address.text)
        names = self._names()
        return {
            "type": "network",
            "interfaces": [
                {
                    "name": card.name,
                    "mac": card.wanted.mac,
                    "addresses": found.get(card.index, [])[:MAX_TOLD],
                    "gateways": list(card.gateways),
                    "dhcp": None if card.lease is None else _describe_lease(card.lease),
                }
                for card in self._cards
            ],
            "name_servers": list(names.name_servers)[:MAX_TOLD],
            "search_domains": list(names.search_domains)[:MAX_TOLD],
            "warnings": [
                *("{}: its link is down".format(card.name) for card in self._cards_down()),
                *(card.warning for card in self._cards if card.warning),
            ],
        }

    # --- a companion -----------------------------------------------------------------------------

    def attach(self, poller: Poller, tell: Tell) -> None:
        """Serve the clients from the loop from now on, and tell the host how things are."""
        if not self._cards:
            return
        self._tell = tell
        for card in self._cards:
            if card.client is not None:
                poller.watch(
                    card.client.descriptor,
                    select.EPOLLIN,
                    partial(self._take_events, card),
                )
        assert self._listener is not None
        poller.watch(self._listener.fileno(), select.EPOLLIN, self._addresses_changed)
        if self._advertisements is not None:
            poller.watch(self._advertisements.fileno(), select.EPOLLIN, self._take_advertisements)
        self._look(self._clock())

    def due(self) -> Optional[float]:
        """Return when to look again, to start a client again, or to forget a name server."""
        times = [card.client.due() for card in self._cards if card.client is not None]
        times += [self._look_at, self._advertised.due()]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._look_at is not None and now >= self._look_at:
            self._look(now)
        if self._advertised.forget(now):
            self._names_changed()
        self._restart(now)

    def take_end(self, pid: int, status: int) -> bool:
        """Learn how a child ended; say whether it was a client."""
        clients = [card.client for card in self._cards if card.client is not None]
        return any(client.take_end(pid, status, self._clock()) for client in clients)

    def repeat(self) -> None:
        """Tell the host of a new session."""
        self._told = None
        self._look_soon()

    def _restart(self, now: float) -> None:
        for card in self._cards:
            client = card.client
            due = None if client is None else client.due()
            if client is not None and due is not None and now >= due:
                try:
                    client.start(
                        now, address=None if card.lease is None else card.lease.address.host
                    )
                except StartError as error:
                    log.error(error.message)
                    self._warn(card, error.message)

    def _addresses_changed(self, _mask: int) -> None:
        assert self._listener is not None
        netlink.drain(self._listener)
        self._look_soon()

    def _look_soon(self) -> None:
        if self._look_at is None and self._cards:
            self._look_at = self._clock() + SETTLE_SECONDS

    def _look(self, now: float) -> None:
        """Tell the host and guestinfo what they do not know."""
        self._look_at = None
        try:
            message = self.describe()
        except OSError as error:
            log.error("the addresses cannot be read: {}".format(error.strerror))
            return
        if self._report is not None and message != self._reported:
            self._reported = message
            self._report(message)
        if self._tell is not None and message != self._told:
            if self._tell(message):
                self._told = message
            else:
                self._look_at = now + RETRY_SECONDS


def _describe_lease(lease: Lease) -> Dict[str, object]:
    return {"server": lease.server, "seconds": lease.seconds}
