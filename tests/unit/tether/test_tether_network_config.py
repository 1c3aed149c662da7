"""The document's network: what is taken, and that each fault names its member."""

from __future__ import annotations

import socket

import pytest

from agent.tether.errors import StartError
from agent.tether.network_config import (
    NONE,
    Interface,
    NetworkConfig,
    Prefix,
    Route,
    parse_network,
    parse_prefix,
)

MAC = "02:42:00:00:00:01"


def v4(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


def test_no_network():
    assert parse_network(None) == NONE
    assert parse_network({"interfaces": []}) == NONE
    assert not NONE.interfaces


def test_a_whole_one():
    document = {
        "wait_seconds": 2.5,
        "interfaces": [
            {
                "mac": "02-42-00-00-00-0A",
                "dhcp": True,
                "slaac": True,
                "mtu": 9000,
                "addresses": ["10.0.2.15/24", "2001:db8::5/64", "192.0.2.9"],
                "gateways": ["10.0.2.2", "fe80::1"],
                "routes": [["192.168.0.0/16", "10.0.2.9"]],
                "name_servers": ["10.0.2.3", "2001:DB8::53"],
                "search_domains": ["corp.example"],
                "unknown": 1,
            },
            {"mac": MAC},
        ],
    }
    expected = Interface(
        "02:42:00:00:00:0a",
        dhcp=True,
        slaac=True,
        mtu=9000,
        addresses=(
            Prefix(socket.AF_INET, v4("10.0.2.15"), 24),
            Prefix(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "2001:db8::5"), 64),
            Prefix(socket.AF_INET, v4("192.0.2.9"), 32),
        ),
        gateways=(v4("10.0.2.2"), socket.inet_pton(socket.AF_INET6, "fe80::1")),
        routes=(Route(Prefix(socket.AF_INET, v4("192.168.0.0"), 16), v4("10.0.2.9")),),
        name_servers=("10.0.2.3", "2001:db8::53"),
        search_domains=("corp.example",),
    )
    assert parse_network(document) == NetworkConfig((expected, Interface(MAC)), 2.5)
    assert expected.has_ipv6
    assert not Interface(MAC).has_ipv6


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "network"),
        ({"wait_seconds": -1}, "network.wait_seconds"),
        ({"wait_seconds": True}, "network.wait_seconds"),
        ({"interfaces": {}}, "network.interfaces"),
        ({"interfaces": [{"mac": MAC}] * 11}, "network.interfaces"),
        ({"interfaces": ["eth0"]}, "network.interfaces[0]"),
        ({"interfaces": [{}]}, "network.interfaces[0].mac"),
        ({"interfaces": [{"mac": "02:42"}]}, "network.interfaces[0].mac"),
        ({"interfaces": [{"mac": "01:42:00:00:00:01"}]}, "network.interfaces[0].mac"),
        ({"interfaces": [{"mac": MAC}, {"mac": MAC}]}, "network.interfaces[1].mac"),
    ],
)
def test_faults(document, field):
    with pytest.raises(StartError) as caught:
        parse_network(document)
    assert caught.value.kind == "config"
    assert f"config field {field}:" in caught.value.message


@pytest.mark.parametrize(
    ("member", "value", "place"),
    [
        ("dhcp", "yes", "dhcp"),
        ("slaac", 1, "slaac"),
        ("mtu", 67, "mtu"),
        ("addresses", "10.0.2.15/24", "addresses"),
        ("addresses", ["10.0.2.256/24"], "addresses[0]"),
        ("addresses", ["10.0.2.15/24", "10.0.2.15/33"], "addresses[1]"),
        ("addresses", ["10.0.2.15/-1"], "addresses[0]"),
        ("addresses", ["10.0.2.15/\u0662"], "addresses[0]"),
        ("addresses", ["::1/128"], "addresses[0]"),
        ("addresses", ["127.0.0.2/8"], "addresses[0]"),
        ("addresses", ["224.0.0.1/4"], "addresses[0]"),
        ("addresses", ["0.0.0.0/0"], "addresses[0]"),
        ("addresses", ["fe80::1%eth0/64"], "addresses[0]"),
        ("addresses", [7], "addresses[0]"),
        ("gateways", ["gateway"], "gateways[0]"),
        ("gateways", ["10.0.2.2", "10.0.2.3"], "gateways[1]"),
        ("routes", [["10.0.0.0/8"]], "routes[0]"),
        ("routes", [["10.0.0.0/8", "fe80::1"]], "routes[0]"),
        ("routes", [["10.0.0.0/8", 1]], "routes[0]"),
        ("name_servers", ["dns.example"], "name_servers[0]"),
        ("name_servers", ["10.0.2.3"] * 33, "name_servers"),
        ("search_domains", ["a b"], "search_domains[0]"),
        ("search_domains", ["x\nnameserver 192.0.2.1"], "search_domains[0]"),
    ],
)
def test_faults_of_an_interface(member, value, place):
    with pytest.raises(StartError) as caught:
        parse_network({"interfaces": [{"mac": MAC, member: value}]})
    assert f"network.interfaces[0].{place}:" in caught.value.message


def test_what_is_in_a_network():
    network = parse_prefix("10.0.2.15/23")
    assert network.holds(v4("10.0.3.1"))
    assert not network.holds(v4("10.0.4.1"))
    assert not network.holds(socket.inet_pton(socket.AF_INET6, "fe80::1"))
    assert parse_prefix("0.0.0.0/0").holds(v4("255.1.2.3"))
