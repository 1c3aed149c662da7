"""Name servers that routers advertise: what is read of the kernel's messages, and for how long."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether.advertised import AdvertisedNames

FOREVER = 0xFFFFFFFF


def servers(seconds: int, *addresses: str) -> bytes:
    body = b"".join(ipaddress.IPv6Address(address).packed for address in addresses)
    return struct.pack(">BBHI", 25, 1 + 2 * len(addresses), 0, seconds) + body


def domains(seconds: int, *names: str) -> bytes:
    body = b""
    for name in names:
        labels = name.encode().split(b".")
        body += b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    body += bytes(-len(body) % 8)
    return struct.pack(">BBHI", 31, 1 + len(body) // 8, 0, seconds) + body


def message(options: bytes, *, index: int = 2, kind: int = 68, length: int | None = None) -> bytes:
    """Put together what the kernel sends of an advertisement (linux/rtnetlink.h)."""
    count = len(options) if length is None else length
    header = struct.pack("=BxHiBB6x", socket.AF_INET6, count, index, 134, 0)
    whole = 16 + len(header) + len(options)
    return struct.pack("=IHHII", whole, kind, 0, 0, 0) + header + options


def test_servers_and_domains_of_each_interface():
    names = AdvertisedNames()
    assert names.take(
        message(servers(600, "2001:db8::1", "fe80::1") + domains(600, "a.example", "b")), 0.0
    )
    assert names.take(message(servers(600, "2001:db8::2"), index=3), 0.0)
    assert names.name_servers(2, "eth0") == ("2001:db8::1", "fe80::1%eth0")
    assert names.search_domains(2) == ("a.example", "b")
    assert names.name_servers(3, "eth1") == ("2001:db8::2",)
    assert names.search_domains(3) == ()


def test_they_end_when_nobody_says_them_again():
    names = AdvertisedNames()
    names.take(message(servers(600, "2001:db8::1") + domains(300, "a.example")), 1000.0)
    assert names.due() == 1300.0
    assert not names.forget(1299.0)
    assert names.forget(1300.0)
    assert names.search_domains(2) == ()
    assert not names.take(message(servers(600, "2001:db8::1")), 1500.0)  # nothing is another
    assert names.due() == 2100.0
    assert names.take(message(servers(0, "2001:db8::1")), 1600.0)  # taken back
    assert names.name_servers(2, "eth0") == ()
    assert names.due() is None


def test_for_good():
    names = AdvertisedNames()
    names.take(message(servers(FOREVER, "2001:db8::1")), 0.0)
    assert names.due() is None
    assert not names.forget(1e12)
    assert names.name_servers(2, "eth0") == ("2001:db8::1",)


@pytest.mark.parametrize(
    "told",
    [
        message(servers(600, "2001:db8::1"), kind=16),
        message(servers(600, "2001:db8::1"), length=16),  # cut short
        message(servers(600, "2001:db8::1")[:-1]),
        message(bytes(8)),  # a length of 0 would never end
        message(servers(600, "::", "::1", "ff02::1")),
        message(domains(600, "a b", "a\nnameserver 192.0.2.1", "ä.example")),
        message(domains(600, "")),
        message(struct.pack(">BBHI8s", 31, 2, 0, 600, b"\x3flabel")),  # longer than the option
        message(domains(600, ".".join(["a" * 60] * 5))),
        message(b"")[:-1],
    ],
)
def test_what_is_not_as_it_should_be_is_left_out(told):
    names = AdvertisedNames()
    assert not names.take(told, 0.0)
    assert (names.name_servers(2, "eth0"), names.search_domains(2)) == ((), ())


def test_no_router_fills_the_memory():
    names = AdvertisedNames()
    for number in range(100):
        names.take(message(servers(600, f"2001:db8::{number:x}:1")), 0.0)
    assert len(names.name_servers(2, "eth0")) == 32
    names.take(message(domains(600, "a.example")), 0.0)
    assert names.search_domains(2) == ("a.example",)


@given(st.binary(max_size=200), st.integers(0, 2**16 - 1))
def test_nothing_that_comes_is_a_fault(options, length):
    names = AdvertisedNames()
    names.take(message(options, length=length), 0.0)
    names.take(options, 0.0)
    for text in (*names.name_servers(2, "eth0"), *names.search_domains(2)):
        assert not set(text) & set(" \n\t#;")
