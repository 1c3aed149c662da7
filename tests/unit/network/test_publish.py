"""-p, -P and --expose by Docker's rules: docker/go-connections, nat/nat_test.go has the cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import UsageError
from converter.network.model import PortRequest
from converter.network.publish import (
    exposed_ports,
    parse_expose,
    parse_publish,
    published_ports,
)


def ports(text: str) -> list[tuple[str, int, int, int, str]]:
    return [
        (one.host_ip, one.host_first, one.host_last, one.container, one.protocol)
        for one in parse_publish(text)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("", 0, 0, 80, "tcp")]),
        ("80/udp", [("", 0, 0, 80, "udp")]),
        ("80/TCP", [("", 0, 0, 80, "tcp")]),
        ("8080:80", [("", 8080, 8080, 80, "tcp")]),
        (":80", [("", 0, 0, 80, "tcp")]),
        ("0:80", [("", 0, 0, 80, "tcp")]),
        ("127.0.0.1:8080:80", [("127.0.0.1", 8080, 8080, 80, "tcp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 0, 80, "tcp")]),
        ("80-81", [("", 0, 0, 80, "tcp"), ("", 0, 0, 81, "tcp")]),
        ("8080-8081:80-81", [("", 8080, 8080, 80, "tcp"), ("", 8081, 8081, 81, "tcp")]),
        ("8000-9000:80", [("", 8000, 9000, 80, "tcp")]),
        ("127.0.0.1:8000-8001:53-54/udp",
         [("127.0.0.1", 8000, 8000, 53, "udp"), ("127.0.0.1", 8001, 8001, 54, "udp")]),
        ("target=80,published=8080,protocol=udp", [("", 8080, 8080, 80, "udp")]),
        ("target=80", [("", 0, 0, 80, "tcp")]),
    ],
)  # fmt: skip
def test_what_is_published(text, expected):
    assert ports(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no port of the machine"),
        ("8080:", "no port of the machine"),
        ("web", "'web' is no port"),
        ("70000", "'70000' is no port"),
        ("80:70000", "'70000' is no port"),
        ("-1:80", "'' is no port"),
        ("0", "'0' is no port"),
        ("81-80", "ends before it begins"),
        ("8080-8081:80-82", "different lengths"),
        ("8080:80-82", "different lengths"),
        ("80/icmp", "'icmp' is no protocol"),
        ("80/sctp", "'sctp' is no protocol"),
        ("localhost:8080:80", "'localhost' is no IP address"),
        ("1.2.3.4.5:8080:80", "is no IP address"),
        ("[::1]:8080:80", "IPv4 addresses only"),
        ("::1:8080:80", "IPv4 addresses only"),
        ("a:b:c:d", "'a:b' is no IP address"),
        ("target=80,mode=host", "'mode=host' is not known"),
        ("\u0663", "is no port"),
    ],
)
def test_what_is_refused(text, why):
    with pytest.raises(UsageError) as caught:
        parse_publish(text)
    assert why in caught.value.what


@given(st.text(alphabet="0123456789:-/.[]=,tcpudx", max_size=30))
def test_whatever_is_said_is_read_or_refused(text):
    try:
        found = parse_publish(text)
    except UsageError:
        return
    assert all(1 <= one.container <= 65535 for one in found)
    assert all(0 <= one.host_first <= one.host_last <= 65535 for one in found)


def test_exposed_ports_are_the_image_s_and_the_options_in_order():
    image = {"ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "443": {}}}
    assert exposed_ports(["9000-9001", "53/udp"], image) == (
        *("53/udp", "443/tcp", "8080/tcp", "9000/tcp", "9001/tcp"),
    )
    assert parse_expose("5/udp") == ("5/udp",)
    for wrong in ("8080:80", "x", "0", "80/sctp"):
        with pytest.raises(UsageError):
            parse_expose(wrong)
    with pytest.raises(UsageError, match="ExposedPorts"):
        exposed_ports([], {"ExposedPorts": ["80"]})


def test_all_exposed_ports_but_those_that_are_published_anyway():
    found = published_ports(["8080:80", "8080:80"], exposed=["80/tcp", "80/udp"], all_exposed=True)
    assert found == (
        PortRequest(container=80, protocol="tcp", host_first=8080, host_last=8080),
        PortRequest(container=80, protocol="udp"),
    )
    assert published_ports([], exposed=["80/tcp"]) == ()
