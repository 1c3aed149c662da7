"""What a DHCP server may say, and what is made of it."""

from __future__ import annotations

import socket

import pytest

from agent.tether.leases import Lease, read_lease
from agent.tether.network_config import Prefix, Route

GOOD = {
    "event": "bound",
    "ip": "10.9.8.7",
    "mask": "24",
    "subnet": "255.255.255.0",
    "router": "10.9.8.1 10.9.8.2",
    "dns": "10.9.8.3 10.9.8.4",
    "domain": "corp.example",
    "lease": "3600",
    "serverid": "10.9.8.1",
    "mtu": "1400",
}


def v4(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


def told(**changes: str) -> Lease:
    return read_lease({**GOOD, **changes})


def test_a_usual_one():
    assert read_lease(GOOD) == Lease(
        Prefix(socket.AF_INET, v4("10.9.8.7"), 24),
        seconds=3600,
        gateways=(v4("10.9.8.1"),),
        name_servers=("10.9.8.3", "10.9.8.4"),
        search_domains=("corp.example",),
        mtu=1400,
        server="10.9.8.1",
    )


def test_only_an_address():
    lease = read_lease({"ip": "10.9.8.7"})
    assert lease == Lease(Prefix(socket.AF_INET, v4("10.9.8.7"), 8))  # a class A network
    assert read_lease({"ip": "172.16.0.9"}).address.length == 16
    assert read_lease({"ip": "192.168.0.9"}).address.length == 24


def test_routes_without_classes_count_before_routers():
    lease = told(staticroutes="0.0.0.0/0 10.9.8.9 192.0.2.0/24 10.9.8.5 ")
    assert lease.gateways == (v4("10.9.8.9"),)
    assert lease.routes == (Route(Prefix(socket.AF_INET, v4("192.0.2.0"), 24), v4("10.9.8.5")),)
    assert told(staticroutes="192.0.2.0/24 10.9.8.5").gateways == ()
    (of_rfc_3442,) = told(staticroutes="129.210.177.132/25 10.9.8.5").routes
    assert of_rfc_3442.destination == Prefix(socket.AF_INET, v4("129.210.177.128"), 25)


def test_domains_to_search():
    assert told(search="one.example two.example").search_domains == ("one.example", "two.example")
    assert told(search="", domain="a;rm b.example").search_domains == ("b.example",)


@pytest.mark.parametrize("address", ["", "x", "0.0.0.0", "127.0.0.1", "224.0.0.1", "fec0::1", "1"])
def test_no_address_that_a_host_may_have(address):
    with pytest.raises(ValueError, match="address"):
        told(ip=address)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("router", "x 0.0.0.0 fe80::1"),
        ("dns", "nameserver 300.1.1.1"),
        ("mtu", "68"),
        ("mtu", "-1"),
        ("lease", "0"),
        ("lease", "9" * 40),
        ("lease", "\u0663"),
        ("serverid", "-"),
        ("domain", "x/y"),
        ("staticroutes", "10.0.0.0/40 10.9.8.5 y"),
    ],
)
def test_what_makes_no_sense_is_left_out(name, value):
    without = dict(GOOD)
    without.pop(name, None)
    assert told(**{name: value}) == read_lease(without)


def test_a_lease_without_an_end():
    assert told(lease=str(0xFFFFFFFF)).seconds is None
