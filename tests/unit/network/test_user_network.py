"""QEMU's user network: its arguments, and a document that the guest's own parser takes."""

from __future__ import annotations

import socket
from pathlib import Path

from agent.tether.network_config import Prefix, parse_network
from converter.network.model import (
    Binding,
    Card,
    CardModel,
    Networking,
    PortRequest,
    derive_mac,
    read_binding,
    read_networking,
)
from converter.network.user import guest_network, host_domains, network_arguments

FULL = Networking(
    cards=(
        Card(mac="02:00:00:00:00:01", ip="10.0.2.50", ipv6=True),
        Card(mac="02:00:00:00:00:02", network="dhcp", model=CardModel.VMXNET3),
    ),
    ports=(PortRequest(container=80, protocol="tcp", host_ip="127.0.0.1", host_first=8080),),
    exposed=("80/tcp",),
)


def test_no_card_no_arguments():
    assert network_arguments(Networking()) == []


def test_each_card_has_a_network_of_its_own():
    binding = Binding(container=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)
    netdev, first, device, model, netdev2, second, _, model2 = network_arguments(FULL, [binding])
    assert (netdev, device, netdev2) == ("-netdev", "-device", "-netdev")
    assert first == (
        "user,id=net0,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.50,"
        "ipv6-prefix=fec0::,ipv6-prefixlen=64,ipv6-host=fec0::2,ipv6-dns=fec0::3,"
        "hostfwd=tcp:0.0.0.0:8080-10.0.2.50:80"
    )
    assert model == "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile="
    assert second == (
        "user,id=net1,net=10.0.3.0/24,host=10.0.3.2,dns=10.0.3.3,dhcpstart=10.0.3.15,ipv6=off"
    )
    assert model2 == "vmxnet3,netdev=net1,mac=02:00:00:00:00:02,romfile="


def test_the_guest_reads_what_the_host_writes():
    document = guest_network(FULL, search_domains=["corp.example"])
    first, second = parse_network(document).interfaces
    assert first.mac == "02:00:00:00:00:01"
    assert first.addresses[0] == Prefix(
        socket.AF_INET, socket.inet_pton(socket.AF_INET, "10.0.2.50"), 24
    )
    assert first.addresses[1].host == "fec0::f"
    assert [len(gateway) for gateway in first.gateways] == [4, 16]
    assert first.name_servers == ("10.0.2.3",)
    assert first.search_domains == ("corp.example",)
    assert (first.dhcp, first.slaac) == (False, False)
    assert (second.dhcp, second.slaac, second.addresses) == (True, False, ())


def test_json_there_and_back():
    assert read_networking(FULL.to_json()) == FULL
    binding = Binding(container=1, protocol="udp", host_ip="127.0.0.1", host_port=2)
    assert read_binding(binding.to_json()) == binding


def test_addresses_follow_from_the_machine():
    networking = Networking(cards=(Card(), Card(network="dhcp", mac="02:00:00:00:00:09")))
    first, second = networking.with_addresses("ab" * 32).cards
    assert first.mac == derive_mac("ab" * 32, 0)
    assert first.mac.startswith("02:42:")
    assert second.mac == "02:00:00:00:00:09"
    assert derive_mac("ab" * 32, 1) != first.mac != derive_mac("cd" * 32, 0)


def test_the_host_s_search_domains(tmp_path: Path):
    file = tmp_path / "resolv.conf"
    file.write_text(
        "domain old.example\n# search no\nsearch a.example b,c b.example .\noptions x\n"
    )
    assert host_domains(file) == ("a.example", "b.example")
    assert host_domains(tmp_path / "none") == ()
