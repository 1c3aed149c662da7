"""What vCenter is told of a guest's network cards, as bytes: XDR of nicinfo.x, version 3.

Owns the encoding. Values are plain: addresses are packed as inet_pton(3) has them.
"""

from __future__ import annotations

import struct

from agent.hints import Callable, Optional, Sequence, Tuple, TypeVar
from agent.tether.c_nicinfo import (
    DNSINFO_MAX_ADDRLEN,
    DNSINFO_MAX_SERVERS,
    DNSINFO_MAX_SUFFIXES,
    IAS_PREFERRED,
    IAT_IPV4,
    IAT_IPV6,
    NIC_INFO_V3,
    NICINFO_MAX_NICS,
    NICINFO_MAX_ROUTES,
)
from agent.values import dataclass

_IPV4_BYTES = 4
_WORD = struct.Struct(">I")
_ABSENT = _WORD.pack(0)
Value = TypeVar("Value")

Prefix = Tuple[bytes, int]  # a packed address, and how many of its bits are the network's


@dataclass(frozen=True)
class Nic:
    """A network card: its address as "02:42:ac:11:00:02", and those of IP that it has."""

    mac: str
    addresses: Tuple[Prefix, ...] = ()
    dhcp: bool = False


@dataclass(frozen=True)
class Route:
    """A way to a network, by a card's place in the list."""

    network: Prefix
    gateway: Optional[bytes]
    nic: int
    metric: int = 0


@dataclass(frozen=True)
class Names:
    """How names are resolved: the guest's own, and packed addresses of servers."""

    host: str
    domain: str = ""
    servers: Tuple[bytes, ...] = ()
    suffixes: Tuple[str, ...] = ()


def encode_nics(nics: Sequence[Nic], routes: Sequence[Route], names: Names) -> bytes:
    """Return the message. What is more than there may be is left out, from the end."""
    shown = nics[:NICINFO_MAX_NICS]
    kept = [route for route in routes if route.nic < len(shown)][:NICINFO_MAX_ROUTES]
    return b"".join(
        (
            _WORD.pack(NIC_INFO_V3),
            _WORD.pack(1),  # the version's content is there
            _list(_nic, shown),
            _list(_route, kept),
            _WORD.pack(1),
            _names(names),
            _ABSENT,  # WINS
            _ABSENT,  # DHCP of all cards together, versions 4 and 6
            _ABSENT,
        )
    )


def _nic(nic: Nic) -> bytes:
    dhcp = _WORD.pack(1) + _WORD.pack(1) + _opaque(b"") if nic.dhcp else _ABSENT
    # Names, WINS and DHCPv6 of the card alone are absent.
    return (
        _opaque(nic.mac.encode("ascii"))
        + _list(_entry, nic.addresses)
        + _ABSENT
        + _ABSENT
        + dhcp
        + _ABSENT
    )


def _entry(address: Prefix) -> bytes:
    packed, prefix = address
    origin = _ABSENT
    return _typed(packed) + _WORD.pack(prefix) + origin + _WORD.pack(1) + _WORD.pack(IAS_PREFERRED)


def _route(route: Route) -> bytes:
    packed, prefix = route.network
    gateway = _ABSENT if route.gateway is None else _WORD.pack(1) + _typed(route.gateway)
    kind = 0  # as open-vm-tools has it on Linux
    return (
        _typed(packed)
        + struct.pack(">I", prefix)
        + gateway
        + struct.pack(">3I", route.nic, kind, route.metric)
    )


def _names(names: Names) -> bytes:
    suffixes = [suffix.encode("utf-8")[:DNSINFO_MAX_ADDRLEN] for suffix in names.suffixes]
    return (
        _WORD.pack(1)
        + _opaque(names.host.encode("utf-8")[:DNSINFO_MAX_ADDRLEN])
        + _WORD.pack(1)
        + _opaque(names.domain.encode("utf-8")[:DNSINFO_MAX_ADDRLEN])
        + _list(_typed, names.servers[:DNSINFO_MAX_SERVERS])
        + _list(_opaque, suffixes[:DNSINFO_MAX_SUFFIXES])
    )


def _typed(packed: bytes) -> bytes:
    return _WORD.pack(IAT_IPV4 if len(packed) == _IPV4_BYTES else IAT_IPV6) + _opaque(packed)


def _opaque(data: bytes) -> bytes:
    """Return bytes behind their length, filled up to a multiple of four."""
    return _WORD.pack(len(data)) + data + bytes(-len(data) % _WORD.size)


def _list(encode: Callable[[Value], bytes], values: Sequence[Value]) -> bytes:
    return _WORD.pack(len(values)) + b"".join(encode(value) for value in values)
