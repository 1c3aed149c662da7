"""Which networks a machine shall be in: --network, --ip, --mac-address and what they mean. Pure.

Source of the rules: docker/cli, opts/network.go (the long form) and cli/command/container/opts.go
(how the short options fit in).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace

from converter.errors import UsageError
from converter.network.model import DHCP, USER, Card, CardModel
from converter.network.user import check_address

NONE = "none"
# Docker's own names for what it does without being asked.
_NAMES = {"default": USER, "bridge": USER, USER: USER, DHCP: DHCP, NONE: NONE}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_LONG_FORM = (
    "name=user|dhcp|none[,ip=ADDRESS][,ip6=ADDRESS][,mac-address=MAC]"
    "[,driver-opt=model=virtio-net|vmxnet3][,driver-opt=ipv6=on]"
)


def parse_networks(
    networks: Sequence[str],
    *,
    mac: str | None = None,
    ip: str | None = None,
    ip6: str | None = None,
) -> tuple[Card, ...]:
    """Return the cards that the options ask for; without --network one in the user network.

    `mac`, `ip` and `ip6` are the options of these names, for the first network. Raises UsageError.
    """
    cards = [_parse_network(text) for text in networks or (USER,)]
    if any(card is None for card in cards):
        if len(cards) > 1:
            raise UsageError("--network none excludes other networks.")
        for option, value in (("--mac-address", mac), ("--ip", ip), ("--ip6", ip6)):
            if value is not None:
                raise UsageError(f"{option} needs a network, and --network none has none.")
        return ()
    found = [card for card in cards if card is not None]
    if len({card.network for card in found}) < len(found):
        raise UsageError("A network is named twice by --network.")
    first = found[0]
    for option, before, value in (
        ("--mac-address", first.mac, mac),
        ("--ip", first.ip, ip),
        ("--ip6", first.ip6, ip6),
    ):
        if before and value is not None:
            raise UsageError(f"{option} is given twice: as an option, and in --network.")
    if mac is not None:
        first = replace(first, mac=_mac("--mac-address", mac))
    if ip is not None:
        first = replace(first, ip=_address("--ip", ip, 4))
    if ip6 is not None:
        first = replace(first, ip6=_address("--ip6", ip6, 6), ipv6=True)
    found[0] = first
    for number, card in enumerate(found):
        check_address(card, number)
    given = [card.mac for card in found if card.mac]
    if len(set(given)) < len(given):
        raise UsageError("Two networks have the same MAC address.")
    return tuple(found)


def _parse_network(text: str) -> Card | None:
    """Read one value of --network; None for no network at all."""
    first, _, _ = text.partition(",")
    name, card = "", Card()
    for member in (text if "=" in first else f"name={text}").split(","):
        key, equals, value = member.partition("=")
        if not equals:
            raise _wrong(text, f"{member!r} has no value")
        if key == "name":
            name = _name(value)
        elif key == "mac-address":
            card = replace(card, mac=_mac(f"--network {text!r}", value))
        elif key == "ip":
            card = replace(card, ip=_address(f"--network {text!r}", value, 4))
        elif key == "ip6":
            card = replace(card, ip6=_address(f"--network {text!r}", value, 6), ipv6=True)
        elif key == "driver-opt":
            card = _driver_option(card, value, text)
        else:
            raise _wrong(text, f"{key!r} is not known")
    if not name:
        raise _wrong(text, "there is no name=")
    return None if name == NONE else replace(card, network=name)


def _driver_option(card: Card, setting: str, text: str) -> Card:
    key, _, value = setting.partition("=")
    if key == "model" and value in list(CardModel):
        return replace(card, model=CardModel(value))
    if key == "ipv6" and value in ("on", "off"):
        return replace(card, ipv6=value == "on" or card.ip6 is not None)
    raise _wrong(text, f"driver-opt={setting} is not known")


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"--network {text!r}: {why}.", expected=_LONG_FORM)


def _name(name: str) -> str:
    if name not in _NAMES:
        hint = None
        if name == "host" or name.startswith("container:"):
            hint = "A machine has a network of its own; publish ports with -p."
        raise UsageError(f"There is no network {name!r}.", expected="user, dhcp or none", hint=hint)
    return _NAMES[name]


def _mac(place: str, text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise UsageError(
            f"{place}: {text!r} is no MAC address that an interface may have.",
            expected="six pairs of hexadecimal digits such as 02:42:ac:11:00:02",
        )
    return mac


def _address(place: str, text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{place}: {text!r} is no IP address.") from error
    if address.version != version:
        raise UsageError(f"{place}: {text} is no address of IPv{version}.")
    return str(address)
