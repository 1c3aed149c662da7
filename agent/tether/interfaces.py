"""The machine's interfaces: found by their MAC addresses, named, and given what they shall have.

Owns what is done to one interface, whether the document or a DHCP server says it. Links are found
down, as they are after a boot.
"""

from __future__ import annotations

import os

from agent import bare_socket as socket
from agent.hints import List, Mapping, Optional, Sequence, Tuple
from agent.tether import log
from agent.tether.dhcp import DhcpClient
from agent.tether.errors import StartError
from agent.tether.leases import FOREVER, Lease
from agent.tether.netlink import Link, RouteSocket, family_of
from agent.tether.network_config import ANYWHERE, Interface, Prefix, Route
from agent.tether.uevents import UeventListener

FIND_SECONDS = 5.0  # for the interfaces to be there, once their drivers are
SETTINGS = "/proc/sys/net"
# The kernel takes an address away that the client should have taken away and did not. The client
# counts leases that are shorter as this long (busybox, networking/udhcp/dhcpc.c).
CLIENT_SECONDS = 122
GRACE_SECONDS = 30
METRIC_STEP = 100  # between the routes of one interface and those of the next one


class Card:
    """One interface, which is to have what `wanted` says, and what its lease says beside that."""

    def __init__(self, kernel: RouteSocket, wanted: Interface, link: Link, number: int) -> None:
        self.wanted = wanted
        self.name = "eth{}".format(number)
        self.index = link.index
        self.lease: Optional[Lease] = None
        self.client: Optional[DhcpClient] = None
        self.warning = ""  # why it has no lease
        self._kernel = kernel
        self._metric = number * METRIC_STEP
        self._mtu = wanted.mtu or link.mtu

    @property
    def gateways(self) -> Tuple[str, ...]:
        """The ways out, as text."""
        leased = () if self.lease is None else self.lease.gateways
        return tuple(_text(gateway) for gateway in self.wanted.gateways + leased)

    def set_up(self) -> None:
        """Give it what the document says, and switch it on; StartError("network")."""
        wanted, what = self.wanted, "its settings"
        try:
            _tell_kernel(self.name, wanted)
            if wanted.mtu is not None:
                what = "an MTU of {}".format(wanted.mtu)
                self._kernel.set_link(self.index, mtu=wanted.mtu)
            what = "switching it on"
            self._kernel.set_link(self.index, up=True)
            for address in wanted.addresses:
                what = "the address {}/{}".format(address.host, address.length)
                self._kernel.set_address(self.index, address.packed, address.length)
            for route in _routes(wanted.gateways, wanted.routes):
                what = "the route by way of {}".format(_text(route.gateway))
                self._set_route(route, wanted.addresses)
        except OSError as error:
            text = "network interface {} ({}): {}: {}"
            why = error.strerror
            raise StartError("network", text.format(self.name, wanted.mac, what, why)) from error

    def take(self, lease: Optional[Lease]) -> None:
        """Put a lease, or none, in the place of the one before; OSError when the kernel refuses it.

        A new address comes before the old one goes, so that the interface has one all the time. A
        route that is refused does not cost the others.
        """
        before, self.lease = self.lease, lease
        if lease is not None:
            address, seconds = lease.address, lease.seconds
            if seconds is not None:
                seconds = min(max(seconds, CLIENT_SECONDS) + GRACE_SECONDS, FOREVER - 1)
            self._kernel.set_address(self.index, address.packed, address.length, seconds=seconds)
        if before is not None:
            kept = [] if lease is None else _routes(lease.gateways, lease.routes)
            for route in _routes(before.gateways, before.routes):
                if route not in kept:
                    self._remove_route(route)
            if lease is None or lease.address != before.address:
                self._remove_address(before.address)
        mtu = None if self.wanted.mtu or lease is None else lease.mtu
        if mtu or (before is not None and before.mtu):
            self._kernel.set_link(self.index, mtu=mtu or self._mtu)
        if lease is not None:
            self._set_routes(lease)

    def _set_routes(self, lease: Lease) -> None:
        refused: Optional[OSError] = None
        for route in _routes(lease.gateways, lease.routes):
            try:
                self._set_route(route, (lease.address,))
            except OSError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    def _set_route(self, route: Route, addresses: Sequence[Prefix]) -> None:
        gateway = _through(route)
        near = gateway is None or any(address.holds(gateway) for address in addresses)
        self._kernel.set_route(
            self.index,
            route.destination.packed,
            route.destination.length,
            gateway,
            metric=self._metric,
            onlink=not near,
        )

    def _remove_route(self, route: Route) -> None:
        destination = route.destination
        try:
            self._kernel.remove_route(
                self.index,
                destination.packed,
                destination.length,
                _through(route),
                metric=self._metric,
            )
        except OSError as error:  # it went with an address, or somebody with the right took it away
            log.info("{}: a route was gone: {}".format(self.name, error.strerror))

    def _remove_address(self, address: Prefix) -> None:
        try:
            self._kernel.remove_address(self.index, address.packed, address.length)
        except OSError as error:  # its time was over
            log.info("{}: {} was gone: {}".format(self.name, address.host, error.strerror))


def find_cards(
    kernel: RouteSocket, wanted: Sequence[Interface], events: UeventListener
) -> List[Card]:
    """Return the interfaces, named eth0, eth1 and so on in this order; those not wanted come last.

    Their drivers must have been loaded. Raises StartError("network") when one is not there.
    """

    def look() -> Optional[List[Link]]:
        links = kernel.links()
        return links if not _missing(wanted, links) else None

    links = events.wait_until(look, FIND_SECONDS)
    if links is None:
        links = kernel.links()
        seen = ["{} {}".format(link.name, link.mac) for link in links if link.is_ethernet]
        text = "no network interface has the MAC address {} (interfaces seen: {})"
        missing = " or ".join(_missing(wanted, links))
        raise StartError("network", text.format(missing, ", ".join(seen) or "none at all"))
    by_mac = {link.mac: link for link in links}
    found = [by_mac[interface.mac] for interface in wanted]
    others = [link for link in links if link.is_ethernet and link not in found]
    _rename(kernel, [*found, *others])
    return [
        Card(kernel, interface, found[number], number) for number, interface in enumerate(wanted)
    ]


def _missing(wanted: Sequence[Interface], links: Sequence[Link]) -> List[str]:
    there = {link.mac for link in links}
    return [interface.mac for interface in wanted if interface.mac not in there]


def _rename(kernel: RouteSocket, links: Sequence[Link]) -> None:
    """Give interfaces their names, in this order, which others of them may still have."""
    names: Mapping[int, str] = {link.index: "eth{}".format(n) for n, link in enumerate(links)}
    wrong = [link for link in links if link.name != names[link.index]]
    try:
        for link in wrong:
            kernel.set_link(link.index, name="renamed{}".format(link.index))
        for link in wrong:
            kernel.set_link(link.index, name=names[link.index])
    except OSError as error:
        text = "the network interfaces cannot be renamed: {}"
        raise StartError("network", text.format(error.strerror)) from error


def _tell_kernel(name: str, wanted: Interface) -> None:
    """Say what the kernel does by itself. Raises OSError when it has no IPv6 and is to have it."""
    # Neighbours learn at once that an address is here now: another machine may have had it before.
    settings = {"ipv4/conf/{}/arp_notify": "1"}
    if not wanted.slaac:
        settings.update({"ipv6/conf/{}/accept_ra": "0", "ipv6/conf/{}/autoconf": "0"})
    # Docker switches it off as well where there is no address.
    settings["ipv6/conf/{}/disable_ipv6"] = "0" if wanted.has_ipv6 else "1"
    for setting, value in settings.items():
        try:
            path = os.path.join(SETTINGS, setting.format(name))
            with open(path, "w", encoding="utf-8") as file:
                file.write(value)
        except FileNotFoundError:
            if wanted.has_ipv6:
                raise


def _routes(gateways: Sequence[bytes], routes: Sequence[Route]) -> List[Route]:
    """Return all routes, the default ones last: their gateways may need the others."""
    found = list(routes)
    for gateway in gateways:
        family = family_of(gateway)
        found.append(Route(Prefix(family, ANYWHERE[family], 0), gateway))
    return found


def _through(route: Route) -> Optional[bytes]:
    """Return the gateway, None for what is on the wire itself (RFC 3442: router 0.0.0.0)."""
    return route.gateway if any(route.gateway) else None


def _text(packed: bytes) -> str:
    return socket.inet_ntop(family_of(packed), packed)
