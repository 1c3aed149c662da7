"""What vCenter is told of a guest, byte for byte as open-vm-tools tells it."""

from __future__ import annotations

import os
import socket

import pytest

from agent.tether.appearance import Appearance
from agent.tether.nic_info import Names, Nic, Route, encode_nics
from agent.tether.os_name import describe_system, parse_os_release, read_os_release
from agent.tether.rpci import RefusalError

# What vmtoolsd of open-vm-tools 12.2.0 (Debian 12) sent as "SetGuestInfo  10 " from a network
# namespace with the two cards, the routes and the resolv.conf that are described below. The status
# of the IPv6 address, the only word changed, was 5 (unknown): ours are known to be preferred (1).
OPEN_VM_TOOLS = bytes.fromhex(
    "00000003 00000001 00000002"
    "00000011 35323a38303a38613a63613a34643a3931 000000 0000000000000000 0000000000000000 00000000"
    "00000011 30323a34323a30303a30303a30303a3061 000000 00000003"
    "00000001 00000004 0a00020f 00000018 00000000 00000001 00000001"
    "00000001 00000004 0a000210 00000018 00000000 00000001 00000001"
    "00000002 00000010 20010db8000000000000000000000005 00000040 00000000 00000001 00000001"
    "00000000 00000000 00000000 00000000"
    "00000007"
    "000000010000000400000000000000000000000100000001000000040a000202000000010000000000000000"
    "00000001 00000004 0a000200 00000018 00000000 00000001 00000000 00000000"
    "000000020000001020010db80000000000000000000000000000004000000000000000010000000000000001"
    "00000002 00000010 00000000000000000000000000000000 00000000"
    "00000001 00000002 00000010 20010db8000000000000000000000001 00000001 00000000 00000400"
    "00000002 00000010 20010db8000000000000000000000005 00000080 00000000 00000001 0000000000000000"
    "00000002 00000010 ff000000000000000000000000000000 00000008 0000000000000000 00000000 00000001"
    "0000000200000010ff0000000000000000000000000000000000000800000000000000010000000000000001"
    "00000001 00000001 00000005 6775657374 000000 00000001 0000000b 6578616d706c652e6f7267 00"
    "00000002 00000001 00000004 0a000203 00000002 00000010 20010db8000000000000000000000003"
    "00000002 0000000b 6578616d706c652e6f7267 00 0000000f 7375622e6578616d706c652e6f7267 00"
    "00000000 00000000 00000000"
)


def packed(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def prefix(text):
    address, length = text.split("/")
    return packed(address), int(length)


def route(network, gateway, nic, metric=0):
    return Route(prefix(network), packed(gateway) if gateway else None, nic, metric)


def test_cards_routes_and_names_are_as_open_vm_tools_encodes_them():
    addresses = ("10.0.2.15/24", "10.0.2.16/24", "2001:db8::5/64")
    nics = [Nic("52:80:8a:ca:4d:91"), Nic("02:42:00:00:00:0a", tuple(map(prefix, addresses)))]
    routes = [
        route("0.0.0.0/0", "10.0.2.2", 1),
        route("10.0.2.0/24", None, 1),
        route("2001:db8::/64", None, 1, 1),
        route("::/0", "2001:db8::1", 1, 1024),
        route("2001:db8::5/128", None, 1),
        route("ff00::/8", None, 0, 1),
        route("ff00::/8", None, 1, 1),
    ]
    names = Names(
        "guest",
        "example.org",
        (packed("10.0.2.3"), packed("2001:db8::3")),
        ("example.org", "sub.example.org"),
    )
    assert encode_nics(nics, routes, names) == OPEN_VM_TOOLS


def test_what_is_more_than_there_may_be_is_left_out():
    nics = [Nic(f"02:42:00:00:00:{number:02x}") for number in range(17)]
    routes = [route("10.0.0.0/8", "10.0.0.1", number % 17) for number in range(300)]
    names = Names("x" * 300, servers=(packed("10.0.0.3"),) * 20, suffixes=("y",) * 12)
    encoded = encode_nics(nics, routes, names)
    assert encoded[8:12] == bytes([0, 0, 0, 16])
    assert encode_nics(nics[:16], [r for r in routes if r.nic < 16][:100], names) == encoded
    fewer = Names("x" * 255, servers=names.servers[:16], suffixes=names.suffixes[:10])
    assert encode_nics(nics, routes, fewer) == encoded


def interface(*addresses, gateways=(), dhcp=None, mac="02:42:00:00:00:0a"):
    fields = {"name": "eth0", "addresses": list(addresses), "gateways": list(gateways)}
    return {**fields, "mac": mac, "dhcp": dhcp}


def network(*interfaces):
    return {
        "type": "network",
        "interfaces": list(interfaces),
        "name_servers": ["10.0.2.3"],
        "search_domains": ["example.org"],
    }


@pytest.mark.parametrize(
    ("interfaces", "address"),
    [
        ([interface("10.0.2.15/24", "2001:db8::5/64")], b"10.0.2.15"),
        ([interface("2001:db8::5/64"), interface("10.0.2.15/24")], b"10.0.2.15"),
        ([interface("2001:db8::5/64")], b"2001:db8::5"),
        ([interface()], b"unknown"),
    ],
)
def test_the_address_that_vcenter_shows(interfaces, address):
    calls = []
    appearance = Appearance(calls.append, host_name="guest")
    appearance.take_network(network(*interfaces))
    assert calls == []  # nobody has asked
    appearance.tell_all()
    assert b"info-set guestinfo.ip " + address in calls


def test_a_change_is_told_once_and_alone():
    calls = []
    appearance = Appearance(calls.append, host_name="guest")
    appearance.take_system("Linux 6.1 Debian", "debian12-64")
    appearance.take_network(network(interface()))
    appearance.tell_all()
    assert [call.rpartition(b" ")[0] for call in calls[:2]] == [
        b"SetGuestInfo  1",
        b"SetGuestInfo  5 Linux 6.1",
    ]
    calls.clear()
    lease = interface("10.0.2.15/24", gateways=["10.0.2.2"], dhcp={"server": "10.0.2.2"})
    for _ in range(2):
        appearance.take_network(network(lease))
    nics = encode_nics(
        [Nic("02:42:00:00:00:0a", (prefix("10.0.2.15/24"),), dhcp=True)],
        [route("0.0.0.0/0", "10.0.2.2", 0)],
        Names("guest", "example.org", (packed("10.0.2.3"),), ("example.org",)),
    )
    assert calls == [b"SetGuestInfo  10 " + nics, b"info-set guestinfo.ip 10.0.2.15"]


def test_a_name_server_on_a_link_is_told_without_the_link():
    calls = []
    appearance = Appearance(calls.append, host_name="guest")
    appearance.take_network({**network(), "name_servers": ["fe80::1%eth0"]})
    appearance.tell_all()
    names = Names("guest", "example.org", (packed("fe80::1"),), ("example.org",))
    assert b"SetGuestInfo  10 " + encode_nics([], [], names) in calls


def test_cards_are_told_as_an_older_hypervisor_knows_them():
    calls = []

    def call(request):
        calls.append(request)
        if request.startswith(b"SetGuestInfo  10 "):
            raise RefusalError("Unknown kind")

    appearance = Appearance(call, host_name="guest")
    appearance.take_network(network(interface("10.0.2.15/24")))
    appearance.tell_all()
    asked, again = [call for call in calls if b"02:42" in call]
    assert again == asked.replace(b"SetGuestInfo  10 ", b"SetGuestInfo  9 ", 1)


@pytest.mark.parametrize(
    ("release", "names"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
            ("Linux 6.1.0-56 Debian GNU/Linux 12 (bookworm)", "debian12-64"),
        ),
        ("ID=alpine\nVERSION_ID=3.20.1\n", ("Linux 6.1.0-56 alpine 3.20.1", "other6xlinux-64")),
        ("ID='ubuntu'\n# ID=other\n", ("Linux 6.1.0-56 ubuntu", "ubuntu-64")),
        ('ID="rhel"\nVERSION_ID="9.4"\nNAME=x', ("Linux 6.1.0-56 rhel 9.4", "rhel9-64")),
        ("ID=debian\n", ("Linux 6.1.0-56 debian", "other6xlinux-64")),
        ("\0=\nPRETTY_NAME=a\tb\x1b[0m\n", ("Linux 6.1.0-56 a b [0m", "other6xlinux-64")),
        ("", ("Linux 6.1.0-56", "other6xlinux-64")),
    ],
)
def test_what_a_system_is_called(release, names):
    assert describe_system(parse_os_release(release), "6.1.0-56") == names


def test_a_name_is_no_longer_than_a_variable():
    full, _short = describe_system({"PRETTY_NAME": "\N{GREEK SMALL LETTER ALPHA}" * 90}, "6.1")
    assert len(full.encode()) == 98  # a letter would not fit whole into the last byte


@pytest.mark.parametrize(("kernel", "short"), [("2.6.32", "3x"), ("7.0", "6x"), ("x", "3x")])
def test_kernels_that_have_no_name_of_their_own(kernel, short):
    assert describe_system({}, kernel)[1] == f"other{short}linux-64"


def test_nothing_but_a_file_of_the_image_is_read(tmp_path):
    assert read_os_release(str(tmp_path)) == {}
    (tmp_path / "etc").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("ID=outside\n")
    (tmp_path / "etc/os-release").symlink_to(outside)
    assert read_os_release(str(tmp_path)) == {}
    (tmp_path / "usr/lib").mkdir(parents=True)
    os.mkfifo(tmp_path / "usr/lib/os-release")
    assert read_os_release(str(tmp_path)) == {}
    (tmp_path / "usr/lib/os-release").unlink()
    (tmp_path / "usr/lib/os-release").write_text("ID=image\n")
    assert read_os_release(str(tmp_path)) == {"ID": "image"}
