"""What a machine's network is made of. Owns values and their JSON; no socket, no process."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

USER = "user"  # a network of the machine's own behind this host, the address known beforehand
DHCP = "dhcp"  # the same, but the guest asks for its address


class CardModel(enum.StrEnum):
    """The hardware that the guest sees."""

    VIRTIO_NET = "virtio-net"
    VMXNET3 = "vmxnet3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One interface. `network` is USER or DHCP.

    An empty `mac` is for whoever makes the machine to fill. `ip` and `ip6` are addresses without a
    prefix length, None for the network's usual ones; with `ipv6` there is IPv6 at all.
    """

    network: str = USER
    mac: str = ""
    model: CardModel = CardModel.VIRTIO_NET
    ip: str | None = None
    ip6: str | None = None
    ipv6: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """A port of the machine that shall be one of this host's, too.

    `host_first` to `host_last` are those that may be taken, 0 and 0 for any that is free. An empty
    `host_ip` is every address.
    """

    container: int
    protocol: str
    host_ip: str = ""
    host_first: int = 0
    host_last: int = 0

    @property
    def name(self) -> str:
        """The machine's port, as "80/tcp"."""
        return f"{self.container}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Networking:
    """A machine's interfaces, the first eth0; `exposed` are ports that are only told of."""

    cards: tuple[Card, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    exposed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `read_networking` reads."""
        return {
            "cards": [asdict(card) for card in self.cards],
            "ports": [asdict(port) for port in self.ports],
            "exposed": list(self.exposed),
        }

    def with_addresses(self, machine: str) -> Networking:
        """Return it with a MAC address for each card that has none, from the machine's id."""
        cards = tuple(
            card if card.mac else replace(card, mac=derive_mac(machine, number))
            for number, card in enumerate(self.cards)
        )
        return replace(self, cards=cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A port of this host that leads to one of the machine's, for as long as that runs."""

    container: int
    protocol: str
    host_ip: str
    host_port: int

    @property
    def name(self) -> str:
        """The machine's port, as "80/tcp"."""
        return f"{self.container}/{self.protocol}"

    @property
    def host(self) -> str:
        """This host's port, as "0.0.0.0:8080"."""
        return f"{self.host_ip}:{self.host_port}"

    def to_json(self) -> dict[str, Any]:
        """Return what `read_binding` reads."""
        return asdict(self)


def derive_mac(machine: str, number: int) -> str:
    """Return a locally administered address, always the same one for a machine's `number`th card.

    It begins as those that Docker gives out.
    """
    digest = hashlib.sha256(f"{machine} {number}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *digest[:4]))


def read_networking(document: Mapping[str, Any]) -> Networking:
    """Return what `Networking.to_json` gave. Raises KeyError, TypeError, ValueError."""
    return Networking(
        cards=tuple(
            Card(
                network=str(card["network"]),
                mac=str(card["mac"]),
                model=CardModel(card["model"]),
                ip=_optional(card["ip"]),
                ip6=_optional(card["ip6"]),
                ipv6=card["ipv6"] is True,
            )
            for card in document["cards"]
        ),
        ports=tuple(
            PortRequest(
                container=int(port["container"]),
                protocol=str(port["protocol"]),
                host_ip=str(port["host_ip"]),
                host_first=int(port["host_first"]),
                host_last=int(port["host_last"]),
            )
            for port in document["ports"]
        ),
        exposed=tuple(map(str, document["exposed"])),
    )


def read_binding(document: Mapping[str, Any]) -> Binding:
    """Return what `Binding.to_json` gave. Raises KeyError, TypeError, ValueError."""
    return Binding(
        container=int(document["container"]),
        protocol=str(document["protocol"]),
        host_ip=str(document["host_ip"]),
        host_port=int(document["host_port"]),
    )


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
