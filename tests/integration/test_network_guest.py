"""The guest's network in real machines: interfaces by MAC, static and DHCP, IPv6, names, faults.

Many cases share a boot. The peers are QEMU's user network, this host, and dnsmasq on an Ethernet of
the test's own. What the guest's document says is the test's; the machine's hardware, too.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.tether.host_config import HostConfig
from converter.machine.model import RunConfig
from tests.guests.host import BOOT_SECONDS, Booted, GuestHost, Record, booted, ended, served
from tests.guests.lan import Lan, lan

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

SHELL = ("/bin/sh", "-c")
FIRST, SECOND, THIRD, OTHER = (f"02:42:00:00:00:0{n}" for n in (1, 2, 3, 9))


def user_card(number: int, mac: str, model: str, options: str = "") -> list[str]:
    net = f"user,id=n{number},net=10.0.{number}.0/24{options}"
    return ["-netdev", net, "-device", f"{model},netdev=n{number},mac={mac},romfile="]


def with_cards(cards: list[str], inside: Sequence[str] = ()) -> Callable[[list[str]], list[str]]:
    """Return what adds cards to QEMU's arguments; `inside` executes QEMU in another place."""
    return lambda arguments: [*inside, *arguments, *cards]


def running(machine: Booted, host: GuestHost) -> None:
    host.wait(
        lambda: "started" in host.processes[0].messages or host.processes[0].code is not None,
        BOOT_SECONDS,
    )
    failed = host.processes[0].messages.get("failed")
    assert failed is None, (failed, machine.console())


class Shell:
    """Runs scripts in one guest."""

    def __init__(self, host: GuestHost) -> None:
        self.host = host
        self._last = 0

    def start(self, script: str, **fields: object) -> Record:
        self._last += 1
        return self.host.start(self._last, args=[*SHELL, script], **fields)

    def finish(self, record: Record) -> str:
        self.host.wait(lambda: record.closed)
        return record.stdout.decode() + record.stderr.decode()

    def __call__(self, script: str, **fields: object) -> str:
        return self.finish(self.start(script, **fields))

    @property
    def told(self) -> dict[str, Any]:
        """What the guest said of its network last."""
        return self.host.processes[0].messages["network"]


@pytest.fixture(scope="module")
def guest(link: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Boot a guest whose cards are in another order than its document's interfaces."""
    network = {
        "interfaces": [
            {
                "mac": FIRST,
                "addresses": ["10.0.2.20/24", "fec0:0:0:2::20/64"],
                "gateways": ["10.0.2.2", "fec0:0:0:2::2"],
                "routes": [["192.0.2.0/24", "10.0.2.2"]],
                "name_servers": ["10.0.2.3"],
                "search_domains": ["test.example"],
                "mtu": 1400,
            },
            {"mac": SECOND, "addresses": ["10.0.3.21/24"], "gateways": ["10.0.3.2"]},
            {"mac": THIRD, "dhcp": True, "slaac": True},
        ]
    }
    hardware = [
        *user_card(4, THIRD, "virtio-net-pci", ",dhcpstart=10.0.4.77,ipv6-prefix=fec0:0:0:4::"),
        *user_card(9, OTHER, "virtio-net-pci"),
        *user_card(2, FIRST, "vmxnet3", ",ipv6-prefix=fec0:0:0:2::"),
        *user_card(3, SECOND, "virtio-net-pci"),
    ]
    host = HostConfig(
        sysctls=(("net.core.somaxconn", "987"), ("net.ipv4.conf.eth0.log_martians", "1")),
        hosts=(("friend", "192.0.2.7"),),
    )
    run = RunConfig(args=(*SHELL, "read line; exit 3"), stdin=True, host_config=host)
    folder = tmp_path_factory.mktemp("vm")
    with (
        booted(folder, link, run, network=network, change=with_cards(hardware)) as machine,
        served(machine) as served_host,
    ):
        running(machine, served_host)
        yield Shell(served_host)
        served_host.write(0, b"enough\n")
        ended(machine, served_host)
        assert served_host.processes[0].code == 3
        assert "the host is not there" not in machine.console()


def test_interfaces_are_found_by_address_and_named_in_order(guest):
    macs = guest("for n in eth0 eth1 eth2 eth3; do cat /sys/class/net/$n/address; done")
    assert macs.split() == [FIRST, SECOND, THIRD, OTHER]
    assert guest("cat /sys/class/net/eth3/flags").strip() == "0x1002"  # broadcast, multicast: down
    assert guest("cat /sys/class/net/eth0/mtu") == "1400\n"
    assert "eth0/../../../virtio" not in guest("readlink -f /sys/class/net/eth0/device/driver")


def test_addresses_and_routes(guest):
    lines = guest("ip -4 -o addr").splitlines()
    found = {line.split()[1]: line.split()[3] for line in lines}
    assert found["eth0"] == "10.0.2.20/24"
    assert found["eth1"] == "10.0.3.21/24"
    assert found["eth2"] == "10.0.4.77/24"
    routes = [" ".join(line.split()) for line in guest("ip route").splitlines()]
    assert "default via 10.0.2.2 dev eth0" in routes
    assert "default via 10.0.3.2 dev eth1 metric 100" in routes
    assert "default via 10.0.4.2 dev eth2 metric 200" in routes
    assert "192.0.2.0/24 via 10.0.2.2 dev eth0" in routes


def test_ipv6_is_where_it_is_asked_for(guest):
    assert "fec0:0:0:2::20/64" in guest("ip -6 addr show dev eth0")
    assert guest("ip -6 addr show dev eth1") == ""
    assert "default via fec0:0:0:2::2 dev eth0" in guest("ip -6 route")


def test_an_address_that_the_kernel_makes_is_told_when_it_is_there(guest):
    network = ipaddress.ip_network("fec0:0:0:4::/64")

    def third() -> list[str]:
        return guest.told["interfaces"][2]["addresses"]

    guest.host.wait(lambda: len(third()) == 2)
    assert third()[0] == "10.0.4.77/24"
    assert ipaddress.ip_interface(third()[1]).network == network


def test_the_host_is_told(guest):
    first, second, third = guest.told["interfaces"]
    assert first["name"] == "eth0"
    assert first["mac"] == FIRST
    assert first["addresses"] == ["10.0.2.20/24", "fec0:0:0:2::20/64"]
    assert first["gateways"] == ["10.0.2.2", "fec0:0:0:2::2"]
    assert first["dhcp"] is None
    assert second["addresses"] == ["10.0.3.21/24"]
    assert third["dhcp"] == {"server": "10.0.4.2", "seconds": 86400}
    assert guest.told["name_servers"] == ["10.0.2.3", "10.0.4.3"]
    assert guest.told["warnings"] == []
    assert guest.host.processes[0].order[0] == "network"  # before the process runs


def test_names(guest):
    assert guest("cat /etc/resolv.conf") == (
        "nameserver 10.0.2.3\nnameserver 10.0.4.3\nsearch test.example\n"
    )
    hosts = guest("cat /etc/hosts").splitlines()[-4:]
    assert (
        hosts
        == [
            "192.0.2.7\tfriend",
            "10.0.2.20\tguest",
            "fec0:0:0:2::20\tguest",
            "10.0.3.21\tguest",
        ]
        or hosts[-1] == "10.0.4.77\tguest"
    )
    assert "10.0.2.20" in guest("cat /etc/hosts | grep guest | head -n 1")


@pytest.mark.parametrize(
    ("family", "local", "gateway"),
    [
        pytest.param(socket.AF_INET, "127.0.0.1", "10.0.2.2", id="IPv4"),
        pytest.param(socket.AF_INET6, "::1", "fec0:0:0:2::2", id="IPv6"),
    ],
)
def test_a_server_on_the_host_is_reached(guest, family, local, gateway):
    server = socket.socket(family)
    server.bind((local, 0))
    server.listen(1)
    server.settimeout(60)
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(100))
            connection.sendall(b"from the host\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        port = server.getsockname()[1]
        said = guest(f"echo from the guest | nc {gateway} {port}")
    finally:
        thread.join(60)
        server.close()
    assert said == "from the host\n"
    assert heard == [b"from the guest\n"]


def test_rights_are_docker_s(guest):
    """Raw sockets yes, settings no; root's ports are anybody's."""
    assert "not permitted" in guest("ip link set eth0 down")
    assert "not permitted" in guest("ip addr add 10.0.2.99/24 dev eth0")
    assert "Read-only" in guest("echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert "1 packets received" in guest("ping -c 1 10.0.2.2")
    listens = (
        "nc -l -p 80 & sleep 0.3; grep -c ':0050 .* 0A ' /proc/net/tcp6 /proc/net/tcp; kill $!"
    )
    assert ":1" in guest(listens, user="app")


def test_settings_of_the_run(guest):
    assert guest("cat /proc/sys/net/core/somaxconn") == "987\n"
    assert guest("cat /proc/sys/net/ipv4/conf/eth0/log_martians") == "1\n"
    assert guest("cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n"
    assert guest("cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "2147483647"]


def test_the_client_is_out_of_reach(guest):
    assert "-x hostname" not in guest("ps")
    assert guest("ls /usr/lib/saltflat /names 2>/dev/null") == ""
    assert "tmpfs /etc/hosts" in guest("grep /etc/hosts /proc/mounts")
    assert "names" not in guest("cat /proc/mounts")


# --- a DHCP server of the test's own ------------------------------------------------------------

# The client's number: it is executed as busybox, while the guest's programs have other names.
CLIENT = 'cd /proc; for p in [0-9]*; do test "$(cat $p/comm)" = busybox && echo $p; done'


@pytest.fixture
def ethernet(tool: Callable[[str], str]) -> Iterator[Lan]:
    for name in ("dnsmasq", "ip", "nsenter"):
        tool(name)
    with lan() as made:
        yield made


@pytest.mark.root
def test_a_lease_from_its_beginning_to_its_end(link: Path, ethernet: Lan, tmp_path: Path) -> None:
    ethernet.serve(
        1,
        [
            *("option:router,10.99.1.1", "option:dns-server,10.99.1.1,10.99.1.2"),
            *("option:domain-search,one.example,two.example", "option:mtu,1300"),
            "option:classless-static-route,192.0.2.0/24,10.99.1.9,0.0.0.0/0,10.99.1.1",
        ],
    )
    network = {"interfaces": [{"mac": FIRST, "dhcp": True, "slaac": True}]}
    host_config = HostConfig(machine_processes=True, add_capabilities=("SYS_PTRACE",))
    run = RunConfig(args=(*SHELL, "read line; exit 3"), stdin=True, host_config=host_config)
    with (
        booted(
            tmp_path,
            link,
            run,
            network=network,
            change=with_cards(ethernet.card(FIRST, "vmxnet3"), ethernet.inside),
        ) as machine,
        served(machine) as host,
    ):
        running(machine, host)
        guest = Shell(host)

        def addresses() -> list[str]:
            return [one for one in guest.told["interfaces"][0]["addresses"] if ":" not in one]

        (before,) = addresses()
        assert before.startswith("10.99.1.")
        assert guest.told["interfaces"][0]["dhcp"] == {"server": "10.99.1.1", "seconds": 600}
        routes = guest("ip route")
        assert "192.0.2.0/24 via 10.99.1.9" in routes
        assert "default via 10.99.1.1" in routes
        assert guest("cat /sys/class/net/eth0/mtu") == "1300\n"
        resolver = "nameserver 10.99.1.1\nnameserver 10.99.1.2\nsearch one.example two.example\n"
        assert guest("cat /etc/resolv.conf") == resolver
        file = guest("stat -c %i /etc/resolv.conf")
        assert "guest" in ethernet.said()  # its name

        # A renewal, with other options; the address stays.
        ethernet.serve(1, ["option:router,10.99.1.7", "option:dns-server,10.99.1.3"])
        guest(f"kill -USR1 $({CLIENT})")
        host.wait(lambda: guest.told["name_servers"] == ["10.99.1.3"])
        assert addresses() == [before]
        assert guest("cat /etc/resolv.conf") == "nameserver 10.99.1.3\n"
        assert guest("stat -c %i /etc/resolv.conf") == file
        routes = guest("ip route")
        assert "default via 10.99.1.7" in routes
        assert "192.0.2.0" not in routes
        assert guest("cat /sys/class/net/eth0/mtu") == "1500\n"

        # A client that is killed is started again and asks for what it had.
        old = guest(CLIENT).strip()
        guest(f"kill -KILL {old}")
        script = (
            f'while p=$({CLIENT}); test -z "$p" || test $p = {old}; do sleep 0.1; done; echo $p'
        )
        assert guest(script).strip() != old
        # It has it when the server has said so, and the client's packet socket is closed; until
        # then it would take any server's offer, and none would refuse it anything.
        host.wait(lambda: "DHCPACK" in ethernet.said().partition("DHCPDISCOVER")[2])
        guest("while tail -n +2 /proc/net/packet | grep -q .; do sleep 0.1; done")
        assert addresses() == [before]

        # A server that knows nothing of the lease refuses it; another one takes its place.
        ethernet.serve(
            2,
            ["option:router,10.99.2.1", "option:dns-server,10.99.2.1"],
            advertised=[
                "option6:dns-server,[fd99::53],[fe80::53]",
                "option6:domain-search,six.example",
            ],
        )
        guest(f"kill -USR1 $({CLIENT})")
        host.wait(lambda: bool(addresses()) and addresses()[0].startswith("10.99.2."))
        assert len(addresses()) == 1
        assert "10.99.1" not in guest("ip addr; ip route; cat /etc/resolv.conf /etc/hosts")
        assert "DHCPNAK" in ethernet.said()

        # It is a router, too, which says where names are asked for (RFC 8106).
        host.wait(lambda: len(guest.told["name_servers"]) == 3)
        assert guest.told["name_servers"] == ["10.99.2.1", "fd99::53", "fe80::53%eth0"]
        assert guest("cat /etc/resolv.conf") == (
            "nameserver 10.99.2.1\nnameserver fd99::53\nnameserver fe80::53%eth0\n"
            "search six.example\n"
        )

        # What the process has made its own is left to it.
        guest("echo nameserver 192.0.2.1 > /etc/resolv.conf")
        guest(f"kill -USR2 $({CLIENT})")  # it gives the lease back
        host.wait(lambda: not addresses())
        assert guest("cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"
        assert "127.0.1.1\tguest" in guest("cat /etc/hosts")
        guest(f"kill -USR1 $({CLIENT})")  # and asks anew
        host.wait(lambda: bool(addresses()))
        host.write(0, b"enough\n")
        ended(machine, host)
        assert host.processes[0].code == 3
    assert "DHCPRELEASE" in ethernet.said()


def test_nobody_gives_a_lease(link: Path, tmp_path: Path) -> None:
    """The process runs all the same, and the host learns why it has no address."""
    network = {"interfaces": [{"mac": FIRST, "dhcp": True}], "wait_seconds": 1}
    hardware = ["-netdev", "hubport,id=h,hubid=0", "-device"]
    hardware += [f"virtio-net-pci,netdev=h,mac={FIRST},romfile="]
    run = RunConfig(args=(*SHELL, "ip -4 addr show dev eth0; cat /etc/resolv.conf"))
    with (
        booted(tmp_path, link, run, network=network, change=with_cards(hardware)) as machine,
        served(machine) as host,
    ):
        host.wait(lambda: host.processes[0].code is not None, BOOT_SECONDS)
        assert host.processes[0].stdout == b"# This machine has no name server.\n"
        (warning,) = host.processes[0].messages["network"]["warnings"]
        assert warning == (
            "eth0: no DHCP server has given it an address within 1 s; the client goes on"
        )
        ended(machine, host)


@pytest.mark.parametrize(
    ("network", "kind", "why"),
    [
        pytest.param(
            {"interfaces": [{"mac": SECOND}]},
            "network",
            f"no network interface has the MAC address {SECOND} (interfaces seen: eth0 {FIRST})",
            id="no such interface",
        ),
        pytest.param(
            {"interfaces": [{"mac": FIRST, "addresses": ["10.0.2.300/24"]}]},
            "config",
            "network.interfaces[0].addresses[0]",
            id="no address",
        ),
        pytest.param(
            {"interfaces": [{"mac": FIRST, "addresses": ["10.0.2.5/24"], "mtu": 60000}]},
            "network",
            f"network interface eth0 ({FIRST}): an MTU of 60000",
            id="what the kernel refuses",
        ),
    ],
)
def test_what_cannot_be_is_one_error(
    link: Path, tmp_path: Path, network: dict[str, Any], kind: str, why: str
) -> None:
    hardware = user_card(2, FIRST, "vmxnet3")
    run = RunConfig(args=("/bin/true",))
    with (
        booted(tmp_path, link, run, network=network, change=with_cards(hardware)) as machine,
        served(machine) as host,
    ):
        host.wait(lambda: host.processes[0].code is not None, BOOT_SECONDS)
        failed = host.processes[0].messages["failed"]
        assert (failed["code"], failed["kind"]) == (125, kind), json.dumps(failed)
        assert why in failed["message"]
        ended(machine, host)
