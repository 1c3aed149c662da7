"""What a DHCP server gave, read from what the client tells of it. Pure.

Owns the meaning of the client's variables (busybox, networking/udhcp/dhcpc.c: fill_envp). All of
them come from the network: what is not as it should be is left out, or makes the lease useless.
"""

from __future__ import annotations

from agent import bare_socket as socket
from agent.hints import List, Mapping, Optional, Tuple
from agent.tether.network_config import (
    MAX_ENTRIES,
    MTU,
    Prefix,
    Route,
    is_host_address,
    parse_address,
    parse_prefix,
)
from agent.tether.patterns import is_domain
from agent.values import dataclass

FOREVER = 0xFFFFFFFF  # RFC 2131: a lease without an end
# Below that a machine would not do what its other interfaces do; RFC 791 has every host take it.
_LEAST_MTU = 576


@dataclass(frozen=True)
class Lease:
    """An address for `seconds` (None: for good), and what goes with it."""

    address: Prefix
    seconds: Optional[int] = None
    gateways: Tuple[bytes, ...] = ()
    routes: Tuple[Route, ...] = ()
    name_servers: Tuple[str, ...] = ()
    search_domains: Tuple[str, ...] = ()
    mtu: Optional[int] = None
    server: str = ""


def read_lease(told: Mapping[str, str]) -> Lease:
    """Return the lease; ValueError when there is no address in it that a host may have."""
    packed = parse_address(told.get("ip", ""))
    if len(packed) != 4 or not is_host_address(packed):
        raise ValueError("an address that no host may have")
    seconds = _number(told, "lease", 1, FOREVER)
    mtu = _number(told, "mtu", _LEAST_MTU, MTU[1])
    routes = _routes(told)
    routers = [
        route.gateway for route in routes if route.destination.length == 0
    ]  # RFC 3442: with such routes the routers do not count
    if not routes:
        routers = _addresses(told, "router")
    return Lease(
        Prefix(socket.AF_INET, packed, _length(told, packed)),
        seconds=None if seconds == FOREVER else seconds,
        gateways=tuple(routers[:1]),
        routes=tuple(route for route in routes if route.destination.length),
        name_servers=tuple(
            socket.inet_ntop(socket.AF_INET, server) for server in _addresses(told, "dns")
        ),
        search_domains=_domains(told),
        mtu=mtu,
        server="".join(
            socket.inet_ntop(socket.AF_INET, server) for server in _addresses(told, "serverid")[:1]
        ),
    )


def _length(told: Mapping[str, str], packed: bytes) -> int:
    """Return the prefix length; without one, that of the address's class."""
    length = _number(told, "mask", 0, 32)
    if length is None:
        length = 8 if packed[0] < 128 else 16 if packed[0] < 192 else 24
    return length


def _routes(told: Mapping[str, str]) -> List[Route]:
    words = told.get("staticroutes", "").split()[: 2 * MAX_ENTRIES]
    routes = []
    for at in range(0, len(words) - 1, 2):
        try:
            # The bits behind the mask do not count (RFC 3442), and the kernel refuses them.
            route = Route(parse_prefix(words[at]).network, parse_address(words[at + 1]))
        except ValueError:
            continue
        if len(route.gateway) == 4 == len(route.destination.packed):
            routes.append(route)
    return routes


def _addresses(told: Mapping[str, str], name: str) -> List[bytes]:
    found = []
    for word in told.get(name, "").split()[:MAX_ENTRIES]:
        try:
            packed = parse_address(word)
        except ValueError:
            continue
        if len(packed) == 4 and any(packed):
            found.append(packed)
    return found


def _domains(told: Mapping[str, str]) -> Tuple[str, ...]:
    """Return the domains to search: option 119, or else the domain."""
    words = (told.get("search") or told.get("domain") or "").split()[:MAX_ENTRIES]
    return tuple(word for word in words if is_domain(word))


def _number(told: Mapping[str, str], name: str, low: int, high: int) -> Optional[int]:
    text = told.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(FOREVER)):
        return None
    return int(text) if low <= int(text) <= high else None
