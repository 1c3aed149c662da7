"""QEMU's user network: numbers, QEMU's arguments, and what the guest is told. Starts nothing.

Each card has a network of its own inside QEMU, which speaks to the outside as any program of this
host does: no rights and no settings of the host are needed. Its addresses are known beforehand, so
a start need not wait for DHCP. Numbers are those of QEMU's manual (-netdev user), moved on by one
network for each further card.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.errors import UsageError
from converter.network.model import DHCP, Binding, Card, CardModel, Networking

PREFIX, PREFIX6 = 24, 64
GATEWAY, NAME_SERVER, GUEST = 2, 3, 15  # the last part of addresses
RESOLV_CONF = Path("/etc/resolv.conf")
_DEVICES = {CardModel.VIRTIO_NET: "virtio-net-pci", CardModel.VMXNET3: "vmxnet3"}
_MAX_DOMAINS = 6  # glibc's, before 2.26


def subnet(number: int) -> ipaddress.IPv4Network:
    """Return the network of the machine's `number`th card."""
    return ipaddress.IPv4Network(f"10.0.{2 + number}.0/{PREFIX}")


def subnet6(number: int) -> ipaddress.IPv6Network:
    """Return the IPv6 network of the machine's `number`th card."""
    return ipaddress.IPv6Network(f"fec0:0:0:{number:x}::/{PREFIX6}")


def address_of(card: Card, number: int) -> str:
    """Return the card's IPv4 address."""
    return card.ip or str(subnet(number)[GUEST])


def check_address(card: Card, number: int) -> None:
    """Raise UsageError unless the card may have the addresses that it asks for."""
    network, network6 = subnet(number), subnet6(number)
    taken = {network[n] for n in (0, GATEWAY, NAME_SERVER, network.num_addresses - 1)}
    if card.ip is not None:
        address = ipaddress.IPv4Address(card.ip)
        if address not in network or address in taken:
            raise UsageError(
                f"The address {card.ip} is not to be had in the user network.",
                expected=f"one of {network} but for "
                f"{', '.join(str(other) for other in sorted(taken))}",
            )
    if card.ip6 is not None:
        address6 = ipaddress.IPv6Address(card.ip6)
        taken6 = {network6[n] for n in (0, GATEWAY, NAME_SERVER)}
        if address6 not in network6 or address6 in taken6:
            raise UsageError(
                f"The address {card.ip6} is not to be had in the user network.",
                expected=f"one of {network6}",
            )


def network_arguments(networking: Networking, bindings: Sequence[Binding] = ()) -> list[str]:
    """Return QEMU's arguments; the ports of `bindings` lead to the first card."""
    arguments = []
    for number, card in enumerate(networking.cards):
        network, name = subnet(number), f"net{number}"
        parts = [
            f"user,id={name},net={network}",
            f"host={network[GATEWAY]},dns={network[NAME_SERVER]}",
            f"dhcpstart={address_of(card, number)}",
        ]
        if card.ipv6:
            network6 = subnet6(number)
            parts.append(f"ipv6-prefix={network6[0]},ipv6-prefixlen={PREFIX6}")
            parts.append(f"ipv6-host={network6[GATEWAY]},ipv6-dns={network6[NAME_SERVER]}")
        else:
            parts.append("ipv6=off")
        if number == 0:
            address = address_of(card, number)
            parts += [
                f"hostfwd={b.protocol}:{b.host_ip}:{b.host_port}-{address}:{b.container}"
                for b in bindings
            ]
        arguments += ["-netdev", ",".join(parts)]
        # Without its ROM, which only serves to boot from the network.
        device = f"{_DEVICES[card.model]},netdev={name},mac={card.mac},romfile="
        arguments += ["-device", device]
    return arguments


def guest_network(networking: Networking, *, search_domains: Sequence[str] = ()) -> dict[str, Any]:
    """Return the `network` of the guest's document (docs/formats.md)."""
    interfaces = []
    for number, card in enumerate(networking.cards):
        interface: dict[str, Any] = {"mac": card.mac}
        if card.network == DHCP:
            interface["dhcp"] = True
            interface["slaac"] = card.ipv6 and card.ip6 is None
        else:
            network = subnet(number)
            interface["addresses"] = [f"{address_of(card, number)}/{PREFIX}"]
            interface["gateways"] = [str(network[GATEWAY])]
            interface["name_servers"] = [str(network[NAME_SERVER])]
        if card.ip6 is not None or (card.ipv6 and card.network != DHCP):
            network6 = subnet6(number)
            address6 = card.ip6 or network6[GUEST]
            interface.setdefault("addresses", []).append(f"{address6}/{PREFIX6}")
            interface.setdefault("gateways", []).append(str(network6[GATEWAY]))
        if number == 0:
            interface["search_domains"] = list(search_domains)
        interfaces.append(interface)
    return {"interfaces": interfaces}


def host_domains(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Return the domains in which this host searches, as Docker passes them on; none if unknown."""
    domains: tuple[str, ...] = ()
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return domains
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("search", "domain"):
            domains = tuple(word for word in words[1:] if _is_domain(word))[:_MAX_DOMAINS]
    return domains


def _is_domain(word: str) -> bool:
    return word != "." and all(c.isascii() and (c.isalnum() or c in "-._") for c in word)
