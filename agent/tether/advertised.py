"""Name servers and search domains that routers advertise, for as long as they say (RFC 8106).

Owns the reading of what the kernel hands on of an advertisement, and the times. All of it comes
from the network: what is not as it should be is left out. Reads no clock.
"""

from __future__ import annotations

import math

from agent import bare_socket as socket
from agent.hints import Dict, Iterator, Optional, Tuple
from agent.tether import c_nd_option, c_netlink
from agent.tether.netlink import split_messages
from agent.tether.network_config import MAX_ENTRIES, is_host_address
from agent.tether.patterns import is_domain

_LINK_LOCAL = b"\xfe\x80"  # fe80::/10, of which 54 bits are zero (RFC 4291, 2.5.6)
_MAX_DOMAIN = 253

Place = Tuple[int, int, bytes]  # index of the interface, type of the option, address or domain


class AdvertisedNames:
    """What is advertised on each interface, in the order in which it came first."""

    def __init__(self) -> None:
        self._ends: Dict[Place, float] = {}  # in seconds of the caller's clock

    def take(self, data: bytes, now: float) -> bool:
        """Read what a socket gave; say whether anything is another now.

        A lifetime of 0 takes back what was said before.
        """
        before = list(self._ends)
        for kind, _, payload in split_messages(data):
            if kind == c_netlink.RTM_NEWNDUSEROPT:
                for index, option, value, seconds in _read(payload):
                    self._note((index, option, value), seconds, now)
        return list(self._ends) != before

    def _note(self, place: Place, seconds: float, now: float) -> None:
        if seconds <= 0:
            self._ends.pop(place, None)
        elif place in self._ends or self._count(place) < MAX_ENTRIES:
            self._ends[place] = now + seconds

    def _count(self, place: Place) -> int:
        return sum(other[:2] == place[:2] for other in self._ends)

    def due(self) -> Optional[float]:
        """Return when the next one ends."""
        return min((end for end in self._ends.values() if end < math.inf), default=None)

    def forget(self, now: float) -> bool:
        """Forget what has ended; say whether anything has."""
        ended = [place for place, end in self._ends.items() if end <= now]
        for place in ended:
            del self._ends[place]
        return bool(ended)

    def name_servers(self, index: int, name: str) -> Tuple[str, ...]:
        """Return those of the interface `index`, which is called `name`, for resolv.conf."""
        servers = []
        for packed in self._values(index, c_nd_option.RECURSIVE_DNS_SERVER):
            text = socket.inet_ntop(socket.AF_INET6, packed)
            servers.append("{}%{}".format(text, name) if packed[:2] == _LINK_LOCAL else text)
        return tuple(servers)

    def search_domains(self, index: int) -> Tuple[str, ...]:
        """Return those of the interface `index`."""
        values = self._values(index, c_nd_option.DNS_SEARCH_LIST)
        return tuple(value.decode("ascii") for value in values)

    def _values(self, index: int, option: int) -> Iterator[bytes]:
        return (place[2] for place in self._ends if place[:2] == (index, option))


def _read(payload: bytes) -> Iterator[Tuple[int, int, bytes, float]]:
    """Yield index, type of option, value and lifetime; an option that is cut short ends them."""
    at = c_netlink.NDUSEROPTMSG.size
    if len(payload) < at:
        return
    family, length, index, _, _ = c_netlink.NDUSEROPTMSG.unpack_from(payload)
    end = min(at + length, len(payload))
    if family != socket.AF_INET6:
        return
    body = c_nd_option.OPTION.size + c_nd_option.LIFETIME.size
    while at + body <= end:
        option, units = c_nd_option.OPTION.unpack_from(payload, at)
        size = units * c_nd_option.UNIT
        if size < body or at + size > end:
            return
        (seconds,) = c_nd_option.LIFETIME.unpack_from(payload, at + c_nd_option.OPTION.size)
        lifetime = math.inf if seconds == c_nd_option.INFINITY else float(seconds)
        value = payload[at + body : at + size]
        if option == c_nd_option.RECURSIVE_DNS_SERVER:
            for address in _addresses(value):
                yield index, option, address, lifetime
        elif option == c_nd_option.DNS_SEARCH_LIST:
            for domain in _domains(value):
                yield index, option, domain, lifetime
        at += size


def _addresses(value: bytes) -> Iterator[bytes]:
    size = c_nd_option.ADDRESS_BYTES
    for at in range(0, len(value) - size + 1, size):
        packed = value[at : at + size]
        if is_host_address(packed):
            yield packed


def _domains(value: bytes) -> Iterator[bytes]:
    """Yield names as "a.example"; what begins with no label, or is cut short, ends them."""
    labels = []
    at = 0
    while at < len(value):
        size = value[at]
        label = value[at + 1 : at + 1 + size]
        at += 1 + size
        if size:
            if size > 63 or len(label) < size:
                return
            labels.append(label)
            continue
        domain = b".".join(labels)
        if not labels:
            return
        labels = []
        if len(domain) <= _MAX_DOMAIN and is_domain(domain.decode("ascii", "replace")):
            yield domain
