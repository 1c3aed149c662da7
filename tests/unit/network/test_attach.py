"""--network and its companions: which cards a machine has."""

from __future__ import annotations

import pytest

from converter.errors import UsageError
from converter.network.attach import parse_networks
from converter.network.model import Card, CardModel


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([], [Card()]),
        (["user"], [Card()]),
        (["bridge"], [Card()]),
        (["default"], [Card()]),
        (["none"], []),
        (["dhcp"], [Card(network="dhcp")]),
        (["name=user"], [Card()]),
        (["user", "dhcp"], [Card(), Card(network="dhcp")]),
        (["user,ip=10.0.2.50"], [Card(ip="10.0.2.50")]),
        (
            ["name=user,mac-address=02-42-AC-11-00-02,driver-opt=model=vmxnet3"],
            [Card(mac="02:42:ac:11:00:02", model=CardModel.VMXNET3)],
        ),
        (["user,driver-opt=ipv6=on"], [Card(ipv6=True)]),
        (["user,ip6=fec0::99"], [Card(ip6="fec0::99", ipv6=True)]),
    ],
)
def test_what_is_asked_for(networks, expected):
    assert list(parse_networks(networks)) == expected


def test_the_short_options_are_about_the_first_network():
    cards = parse_networks(["dhcp", "user"], mac="02:00:00:00:00:01", ip="10.0.2.9", ip6="fec0::9")
    assert cards == (
        Card(network="dhcp", mac="02:00:00:00:00:01", ip="10.0.2.9", ip6="fec0::9", ipv6=True),
        Card(),
    )


@pytest.mark.parametrize(
    ("networks", "options", "why"),
    [
        (["host"], {}, "no network 'host'"),
        (["container:web"], {}, "no network 'container:web'"),
        (["mine"], {}, "no network 'mine'"),
        ([""], {}, "no network ''"),
        (["none", "user"], {}, "excludes"),
        (["none"], {"ip": "10.0.2.9"}, "--ip needs a network"),
        (["none"], {"mac": "02:00:00:00:00:01"}, "--mac-address needs a network"),
        (["user", "bridge"], {}, "named twice"),
        (["user,ip=10.0.2.9"], {"ip": "10.0.2.9"}, "--ip is given twice"),
        (["user,alias=web"], {}, "'alias' is not known"),
        (["user,ip"], {}, "'ip' has no value"),
        (["ip=10.0.2.9"], {}, "there is no name="),
        (["user,driver-opt=model=e1000"], {}, "driver-opt=model=e1000 is not known"),
        ([], {"ip": "10.0.3.9"}, "not to be had"),
        ([], {"ip": "10.0.2.2"}, "not to be had"),
        ([], {"ip": "10.0.2.255"}, "not to be had"),
        ([], {"ip": "fec0::9"}, "no address of IPv4"),
        ([], {"ip": "x"}, "no IP address"),
        ([], {"ip6": "fe80::9"}, "not to be had"),
        ([], {"ip6": "fec0::2"}, "not to be had"),
        ([], {"mac": "01:00:00:00:00:01"}, "no MAC address"),
        ([], {"mac": "00:00:00:00:00:00"}, "no MAC address"),
        ([], {"mac": "2:0:0:0:0:1"}, "no MAC address"),
        (
            ["user,mac-address=02:00:00:00:00:01", "dhcp,mac-address=02:00:00:00:00:01"],
            {},
            "the same MAC address",
        ),
    ],
)
def test_what_is_refused(networks, options, why):
    with pytest.raises(UsageError) as caught:
        parse_networks(networks, **options)
    assert why in caught.value.what
