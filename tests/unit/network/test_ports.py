"""This host's ports, with real sockets on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from converter.errors import UsageError
from converter.network.model import PortRequest
from converter.network.ports import find_ports

LOCAL = "127.0.0.1"


@pytest.fixture(params=["tcp", "udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    kind = socket.SOCK_STREAM if request.param == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as holder:
        # As QEMU's own sockets are.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOCAL, 0))
        if request.param == "tcp":
            holder.listen(1)
        yield request.param, holder.getsockname()[1]


def request(protocol: str, first: int = 0, last: int = 0, ip: str = LOCAL) -> PortRequest:
    return PortRequest(
        container=80, protocol=protocol, host_ip=ip, host_first=first, host_last=last or first
    )


def test_a_free_port_is_found_and_none_twice():
    wanted = [
        PortRequest(container=number, protocol="tcp", host_ip=LOCAL) for number in range(1, 20)
    ]
    found = find_ports(wanted)
    assert [binding.container for binding in found] == list(range(1, 20))
    assert len({binding.host_port for binding in found}) == len(wanted)
    assert all(binding.host_port > 0 for binding in found)


def test_every_address_is_docker_s_default():
    (binding,) = find_ports([PortRequest(container=80, protocol="udp")])
    assert binding.host_ip == "0.0.0.0"
    assert binding.host == f"0.0.0.0:{binding.host_port}"


def test_a_port_that_is_in_use(taken):
    protocol, port = taken
    for ip in (LOCAL, ""):
        with pytest.raises(UsageError, match=f"Port {port}/{protocol} of .* is in use"):
            find_ports([request(protocol, port, ip=ip)])


def test_a_range_goes_on_behind_what_is_in_use(taken):
    protocol, port = taken
    last = min(port + 20, 65535)
    first = last - 20
    (binding,) = find_ports([request(protocol, first, last)])
    assert first <= binding.host_port <= last
    assert binding.host_port != port


def test_two_requests_for_one_port():
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        port = probe.getsockname()[1]
    with pytest.raises(UsageError, match="in use"):
        find_ports([request("tcp", port), request("tcp", port)])


def test_an_address_that_is_not_this_host_s():
    with pytest.raises(UsageError, match=r"cannot be published.*assign requested") as caught:
        find_ports([request("tcp", 8080, ip="192.0.2.1")])
    assert caught.value.hint
