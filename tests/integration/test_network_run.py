"""Networks through the command line: ports that lead to the machine, and what is told of them.

The machines are the product's own; their peer is this host, over the loopback interface.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import escape
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

# Answers on 80/tcp and 53/udp until it is stopped, by the Python that the image has. PID 1 is not
# ended by a signal that it does not take.
SERVER = """
import os, select, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
tcp = socket.socket(); tcp.bind(("", 80)); tcp.listen(5)
udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(("", 53))
while True:
    for ready in select.select([tcp, udp], [], [])[0]:
        if ready is tcp:
            connection, _ = tcp.accept()
            connection.sendall(b"tcp")
            connection.close()
        else:
            question, peer = udp.recvfrom(100)
            udp.sendto(b"udp: " + question, peer)
"""
ANSWER_SECONDS = 60.0


@pytest.fixture(scope="module")
def image() -> str:
    return f"oci:{escape.layout()}:latest"


@pytest.fixture
def machine(saltflat: Saltflat, store: Path, image: str) -> Iterator[Callable[..., str]]:
    """Return a function that starts a machine in the background, and its name; all are removed."""
    made: list[str] = []

    def start(
        *flags: str, command: tuple[str, ...] = ("/usr/bin/python3.11", "-ISBc", SERVER)
    ) -> str:
        name = f"net-{time.monotonic_ns()}"
        made.append(name)
        saltflat.good("run", "-d", "--name", name, "--store", store, *flags, image, *command)
        return name

    yield start
    if made:
        saltflat("rm", "-f", *made)


def inspected(saltflat: Saltflat, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(saltflat.good("inspect", "--format", "json", name))
    return document


def ask(port: int, *, udp: bool = False) -> bytes:
    """Return the machine's answer at a port of this host, once its process listens."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(2)
            try:
                client.connect(("127.0.0.1", port))
                if udp:
                    client.send(b"question")
                if answer := client.recv(100):
                    return answer
            except OSError:  # not yet
                time.sleep(0.1)
    raise AssertionError(f"no answer at port {port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.verbs("run", "port", on="qemu")
def test_ports_lead_to_the_machine(saltflat, machine, store, image):
    port = free_port()
    name = machine("-p", f"{port}:80", "-p", "127.0.0.1::53/udp", "--expose", "7000-7001")
    lines = saltflat.good("port", name).decode().splitlines()
    found = dict(line.split(" -> ") for line in lines)
    assert found["80/tcp"] == f"0.0.0.0:{port}"
    address, _, udp_port = found["53/udp"].partition(":")
    assert address == "127.0.0.1"
    assert saltflat.good("port", name, "80").decode() == f"0.0.0.0:{port}\n"
    assert saltflat("port", name, "81").returncode == 3
    assert saltflat("port", name, "abc").stderr.startswith(b"Error: 'abc': 'abc' is no port.")
    assert ask(port) == b"tcp"
    assert ask(int(udp_port), udp=True) == b"udp: question"

    words = saltflat.good("ps", "--filter", f"name={name}", "--format", "{{.Ports}}").decode()
    assert words == f"0.0.0.0:{port}->80/tcp, 127.0.0.1:{udp_port}->53/udp, 7000/tcp, 7001/tcp\n"
    told = inspected(saltflat, name)
    card = told["spec"]["networking"]["cards"][0]
    assert re.fullmatch("02:42(:[0-9a-f]{2}){4}", card["mac"])
    (interface,) = told["network"]["interfaces"]
    assert interface["mac"] == card["mac"]
    assert interface["addresses"] == ["10.0.2.15/24"]
    assert told["network"]["ports"]["80/tcp"] == [{"host_ip": "0.0.0.0", "host_port": port}]
    assert told["network"]["ports"]["7000/tcp"] == []

    # A port that is taken is said before anything is made; the first machine goes on.
    done = saltflat(
        "run", "--rm", "--store", store, "-p", f"{port}:80", image, "/opt/busybox", "true"
    )
    assert done.returncode == 125
    assert f"Port {port}/tcp of 0.0.0.0 is in use" in done.stderr.decode()

    # The machine's own address stays; a port that nobody chose may be another one.
    saltflat.good("restart", name)
    assert inspected(saltflat, name)["spec"]["networking"]["cards"][0]["mac"] == card["mac"]
    assert ask(port) == b"tcp"
    saltflat.good("stop", "-t", "5", name)
    assert saltflat.good("port", name) == b""


def test_all_ports_by_a_card_like_vsphere_s(saltflat, machine):
    """The driver is the one that is used on ESXi, the address comes by DHCP."""
    flags = ("--network", "name=dhcp,driver-opt=model=vmxnet3,driver-opt=ipv6=on")
    name = machine(*flags, "-P", "--expose", "80", "--mac-address", "02:00:00:00:00:77")
    (line,) = saltflat.good("port", name).decode().splitlines()
    assert ask(int(line.rpartition(":")[2])) == b"tcp"
    (interface,) = inspected(saltflat, name)["network"]["interfaces"]
    assert interface["mac"] == "02:00:00:00:00:77"
    assert interface["addresses"][0] == "10.0.2.15/24"
    assert interface["dhcp"]["server"] == "10.0.2.2"


def test_no_network(saltflat, store, image):
    """Nothing but the loopback, and no driver for anything else."""
    script = (
        "b=/opt/busybox; $b ls /sys/class/net; $b cat /etc/resolv.conf; $b tail -n 1 /etc/hosts"
    )
    flags = ("--rm", "--store", store, "--hostname", "alone", "--network", "none")
    output = saltflat.good("run", *flags, image, "/opt/busybox", "sh", "-c", script).decode()
    assert output == "lo\n# This machine has no name server.\n127.0.1.1\talone\n"


def test_two_networks_and_names(saltflat, store, image):
    script = (
        "b=/opt/busybox; $b cat /etc/resolv.conf; $b tail -n 2 /etc/hosts; $b ls /sys/class/net"
    )
    flags = ("--rm", "--store", store, "--hostname", "both", "--dns", "192.0.2.53")
    networks = ("--network", "user,ip=10.0.2.40", "--network", "name=dhcp")
    output = saltflat.good(
        "run", *flags, *networks, image, "/opt/busybox", "sh", "-c", script
    ).decode()
    assert output.startswith("nameserver 192.0.2.53\n")
    assert output.endswith("10.0.2.40\tboth\n10.0.3.15\tboth\neth0\neth1\nlo\n")
