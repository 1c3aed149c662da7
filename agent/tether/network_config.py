"""The document's `network`: the machine's interfaces, and what each is to have.

Owns the schema and every check that needs no interface. Errors name the field. A document without
it, or without interfaces, leaves the machine its loopback alone.
"""

from __future__ import annotations

from agent import bare_socket as socket
from agent.hints import Dict, List, Mapping, Optional, Tuple
from agent.tether import fields
from agent.tether.fields import wrong
from agent.tether.patterns import is_domain, is_mac
from agent.values import dataclass

MAX_INTERFACES = 10  # of a machine of vSphere's
MAX_ENTRIES = 32  # addresses, routes or servers of one interface
MTU = (68, 65535)  # RFC 791's least, and the most that a header can say
WAIT_SECONDS = 10.0
BITS: Mapping[int, int] = {socket.AF_INET: 32, socket.AF_INET6: 128}
ANYWHERE: Mapping[int, bytes] = {family: bytes(bits // 8) for family, bits in BITS.items()}


@dataclass(frozen=True)
class Prefix:
    """An address with the length of its network's prefix; `packed` as inet_pton(3) has it."""

    family: int
    packed: bytes
    length: int

    def holds(self, packed: bytes) -> bool:
        """Say whether an address is in this network."""
        if len(packed) != len(self.packed):
            return False
        rest = BITS[self.family] - self.length
        return int.from_bytes(packed, "big") >> rest == int.from_bytes(self.packed, "big") >> rest

    @property
    def network(self) -> Prefix:
        """The network that the address is in: its own bits are zeros."""
        rest = BITS[self.family] - self.length
        number = int.from_bytes(self.packed, "big") >> rest << rest
        return Prefix(self.family, number.to_bytes(len(self.packed), "big"), self.length)

    @property
    def host(self) -> str:
        """The address alone, as text."""
        return socket.inet_ntop(self.family, self.packed)


@dataclass(frozen=True)
class Route:
    """What is reached by way of `gateway` (packed; all zeros in a lease: directly)."""

    destination: Prefix
    gateway: bytes


@dataclass(frozen=True)
class Interface:
    """What the interface with this MAC address (lower case, with colons) is to have.

    `slaac`: the kernel may give itself IPv6 addresses as the routers say. Without it, and without
    an IPv6 address of its own, the interface has no IPv6 at all.
    """

    mac: str
    dhcp: bool = False
    slaac: bool = False
    mtu: Optional[int] = None
    addresses: Tuple[Prefix, ...] = ()
    gateways: Tuple[bytes, ...] = ()
    routes: Tuple[Route, ...] = ()
    name_servers: Tuple[str, ...] = ()
    search_domains: Tuple[str, ...] = ()

    @property
    def has_ipv6(self) -> bool:
        """Whether there is to be any IPv6."""
        return self.slaac or any(a.family == socket.AF_INET6 for a in self.addresses)


@dataclass(frozen=True)
class NetworkConfig:
    """All interfaces; the first becomes eth0. A start waits at most so long for leases."""

    interfaces: Tuple[Interface, ...] = ()
    wait_seconds: float = WAIT_SECONDS


NONE = NetworkConfig()


def parse_network(document: object) -> NetworkConfig:
    """Check and return it; StartError("config") that names the member."""
    if document is None:
        return NONE
    if not isinstance(document, dict):
        raise wrong("network", "an object")
    wait = document.get("wait_seconds", WAIT_SECONDS)
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait <= 3600:
        raise wrong("network.wait_seconds", "a number of seconds from 0 to 3600")
    entries = _list(document, "interfaces", "network.interfaces", MAX_INTERFACES)
    found: Dict[str, Interface] = {}
    for number, entry in enumerate(entries):
        field = "network.interfaces[{}]".format(number)
        if not isinstance(entry, dict):
            raise wrong(field, "an object")
        interface = _parse_interface(entry, field)
        if interface.mac in found:
            raise wrong(field + ".mac", "another address than that of an interface before it")
        found[interface.mac] = interface
    return NetworkConfig(tuple(found.values()), wait)


def parse_prefix(text: str) -> Prefix:
    """Read "10.0.2.15/24" or an IPv6 address; without a length it is one host's. ValueError."""
    host, slash, length = text.partition("/")
    packed, family = parse_address(host), socket.AF_INET6 if ":" in host else socket.AF_INET
    bits = BITS[family]
    if slash and not (length.isdigit() and length.isascii() and int(length) <= bits):
        raise ValueError("a prefix length from 0 to {}".format(bits))
    return Prefix(family, packed, int(length) if slash else bits)


def parse_address(text: str) -> bytes:
    """Read an IPv4 or IPv6 address. Raises ValueError."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise ValueError("{!r} is no IP address".format(text)) from error


def is_host_address(packed: bytes) -> bool:
    """Say whether an address may be an interface's: one host's, and not this machine's itself."""
    if len(packed) == 4:
        return packed[0] not in (0, 127) and packed[0] < 224
    return packed[0] != 0xFF and packed not in (bytes(16), bytes(15) + b"\1")


def _parse_interface(entry: Mapping[str, object], field: str) -> Interface:
    mac = fields.text(entry, "mac", field + ".mac").lower().replace("-", ":")
    if not is_mac(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise wrong(field + ".mac", "the MAC address of one interface, as 02:42:ac:11:00:02")
    mtu = entry.get("mtu")
    addresses = []
    for place, text in _texts(entry, "addresses", field):
        address = _prefix(place, text)
        if not is_host_address(address.packed):
            raise wrong(place, "an address that one host may have")
        addresses.append(address)
    gateways: Dict[int, bytes] = {}
    for place, text in _texts(entry, "gateways", field):
        packed = _address(place, text)
        if len(packed) in gateways:
            raise wrong(place, "at most one gateway of each IP version")
        gateways[len(packed)] = packed
    return Interface(
        mac,
        dhcp=fields.flag(entry, "dhcp", field + ".dhcp"),
        slaac=fields.flag(entry, "slaac", field + ".slaac"),
        mtu=None if mtu is None else fields.whole(entry, "mtu", field + ".mtu", *MTU),
        addresses=tuple(addresses),
        gateways=tuple(gateways.values()),
        routes=_parse_routes(entry, field),
        name_servers=tuple(
            socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
            for packed in (_address(*one) for one in _texts(entry, "name_servers", field))
        ),
        search_domains=_parse_domains(entry, field),
    )


def _parse_routes(entry: Mapping[str, object], field: str) -> Tuple[Route, ...]:
    routes = []
    for number, pair in enumerate(_list(entry, "routes", field + ".routes", MAX_ENTRIES)):
        place = "{}.routes[{}]".format(field, number)
        if not isinstance(pair, list) or len(pair) != 2:
            raise wrong(place, "a network and a gateway")
        destination = _prefix(place, fields.checked(pair[0], place))
        gateway = _address(place, fields.checked(pair[1], place))
        if len(gateway) != len(destination.packed):
            raise wrong(place, "a network and a gateway of one IP version")
        routes.append(Route(destination, gateway))
    return tuple(routes)


def _parse_domains(entry: Mapping[str, object], field: str) -> Tuple[str, ...]:
    domains = []
    for place, text in _texts(entry, "search_domains", field):
        if not is_domain(text):
            raise wrong(place, "a domain")
        domains.append(text)
    return tuple(domains)


def _texts(entry: Mapping[str, object], name: str, field: str) -> List[Tuple[str, str]]:
    """Return the texts of a list, each with its place."""
    found = []
    for number, item in enumerate(_list(entry, name, "{}.{}".format(field, name), MAX_ENTRIES)):
        place = "{}.{}[{}]".format(field, name, number)
        found.append((place, fields.checked(item, place)))
    return found


def _list(parent: Mapping[str, object], name: str, field: str, most: int) -> List[object]:
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise wrong(field, "a list of at most {}".format(most))
    return value


def _prefix(place: str, text: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError as error:
        raise wrong(place, "an address such as 10.0.2.15/24 ({})".format(error)) from error


def _address(place: str, text: str) -> bytes:
    try:
        return parse_address(text)
    except ValueError as error:
        raise wrong(place, "an IP address ({})".format(error)) from error
