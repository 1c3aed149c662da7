"""In a network namespace of its own: change the network by the agent's modules, print what ip sees.

Run by tests/unit/tether/test_tether_netlink.py through unshare(1); needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from agent.tether import c_netlink, netlink
from agent.tether.interfaces import Card, find_cards
from agent.tether.leases import read_lease
from agent.tether.network_config import parse_network
from agent.tether.uevents import UeventListener

MACS = ("02:42:00:00:00:0a", "02:42:00:00:00:0b", "02:42:00:00:00:0c")


def ip(*arguments: str) -> list[dict[str, Any]]:
    """Return what ip(8) says, which is no part of ours."""
    done = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, timeout=20)
    answer: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return answer


def seen() -> dict[str, object]:
    """Return everything that ip(8) sees."""
    return {"addr": ip("addr"), "route": ip("route"), "route6": ip("-6", "route")}


def main() -> None:
    for number, mac in enumerate(MACS):
        ip("link", "add", f"eth{number}", "address", mac, "type", "veth", "peer", f"far{number}")
    answers: dict[str, object] = {}
    wanted = parse_network(
        {
            "interfaces": [
                {
                    "mac": MACS[2],
                    "mtu": 1400,
                    "addresses": ["10.1.0.5/16", "2001:db8::5/64", "192.0.2.7/31"],
                    "gateways": ["10.1.0.1", "2001:db8::1"],
                    "routes": [["198.51.100.0/24", "10.1.0.9"], ["203.0.113.0/24", "10.77.0.1"]],
                },
                {"mac": MACS[0]},
            ]
        }
    )
    listener = netlink.open_listener(c_netlink.RTMGRP_IPV4_IFADDR)
    with netlink.RouteSocket() as kernel, UeventListener() as events:
        cards = find_cards(kernel, wanted.interfaces, events)
        for link in kernel.links():  # the cables' far ends
            if link.is_ethernet and link.mac not in MACS:
                ip("link", "set", link.name, "addrgenmode", "none", "up")
        for card in cards:
            card.set_up()
        answers["running"] = running(kernel)
        answers["static"] = seen()
        answers["ours"] = [[a.index, a.text, a.scope] for a in kernel.addresses()]
        answers["heard"] = bool(select.select([listener], [], [], 5)[0])
        netlink.drain(listener)
        answers["drained"] = not select.select([listener], [], [], 0)[0]
        answers["leases"] = leases(cards[1])
        answers["refused"] = refused(kernel, cards[1])
    json.dump(answers, sys.stdout)


def running(kernel: netlink.RouteSocket) -> list[list[object]]:
    """Return each cable's end, whether it runs by us and by ip(8), before and behind a cut."""
    found: list[list[object]] = []
    far = next(link for link in kernel.links() if link.is_ethernet and link.mac not in MACS)
    for state in ("up", "down", "up"):
        ip("link", "set", far.name, state)
        ours = theirs = None
        while ours is None or ours != kernel.links():  # the kernel takes a moment to see it
            ours = kernel.links()
            theirs = {e["ifname"]: [e["operstate"], *e["flags"]] for e in ip("link")}
        assert theirs is not None
        found += [
            [f"{state} {link.name}", link.is_running, *theirs[link.name]]
            for link in ours
            if link.is_ethernet
        ]
    return found


def leases(card: Card) -> list[dict[str, object]]:
    """Return what is seen after each of some leases, and what was refused of it."""
    told = {"ip": "10.2.0.50", "mask": "24", "lease": "600", "router": "10.2.0.1", "mtu": "1300"}
    found = []
    for change in (
        {},
        {"lease": "700", "router": "10.2.0.2", "mtu": ""},  # a renewal
        {"ip": "10.3.0.50", "router": "10.3.0.1", "staticroutes": ""},  # another address
        {  # one alone, as a cloud gives it: the way to the gateway is a route on the wire
            "ip": "10.4.0.50",
            "mask": "32",
            "staticroutes": "198.51.100.0/24 224.0.0.1 "  # which the kernel refuses: by itself
            "10.4.0.1/32 0.0.0.0 0.0.0.0/0 10.4.0.1 192.0.2.5/24 0.0.0.0",
        },
        None,
    ):
        refused = ""
        try:
            card.take(None if change is None else read_lease({**told, **change}))
        except OSError as error:
            refused = os.strerror(error.errno or 0)
        found.append({**seen(), "refused": refused})
    return found


def refused(kernel: netlink.RouteSocket, card: Card) -> list[str]:
    """Return how requests fail that must."""
    words = []
    requests: tuple[Callable[[], None], ...] = (
        lambda: kernel.set_link(9999, up=True),
        lambda: kernel.remove_address(card.index, socket.inet_aton("10.9.9.9"), 24),
        lambda: kernel.set_route(card.index, bytes(4), 0, socket.inet_aton("10.9.9.9")),
    )
    for request in requests:
        with contextlib.suppress(FileNotFoundError):
            try:
                request()
                words.append("done")
            except OSError as error:
                words.append(os.strerror(error.errno or 0))
    return words


if __name__ == "__main__":
    main()
