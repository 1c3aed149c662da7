"""The tiny kernel with a network: a process's own packet filter, over vmxnet3, and a whole image.

They run where a tiny kernel is built, as in `test_kernels.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.tether.host_config import HostConfig
from converter.machine.model import RunConfig
from converter.store.bootimages import set_default
from converter.store.layout import Store
from tests.guests import disk
from tests.guests.foreign import copy_with_libraries
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.integration.conftest import Saltflat
from tinykernel.record import BootImage

pytestmark = [pytest.mark.integration, pytest.mark.vm]

MAC = "02:42:00:00:00:01"
CARD = (
    *("-netdev", "user,id=net0,ipv6-prefix=fec0:0:0:2::"),
    *("-device", f"vmxnet3,netdev=net0,mac={MAC},romfile="),
)

# What images do that bring a packet filter: Docker's and Kubernetes's kinds of rules, and whether
# they do what they say.
FILTER = r"""
set -e
iptables -N APP
iptables -A INPUT -j APP
iptables -A APP -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A APP -p tcp --dport 9000 -m comment --comment closed -j REJECT --reject-with tcp-reset
iptables -A APP -p tcp -m multiport --dports 1000,2000 -m limit --limit 5/min -j LOG
iptables -A OUTPUT -m owner --uid-owner 1000 -p tcp --dport 9002 -j REJECT
iptables -t nat -A OUTPUT -p tcp -d 192.0.2.1 --dport 80 -j REDIRECT --to-ports 9001
iptables -t nat -A OUTPUT -p tcp -d 192.0.2.2 --dport 80 -j DNAT --to-destination 127.0.0.1:9001
iptables -t nat -A POSTROUTING -o eth0 -m addrtype ! --dst-type LOCAL -j MASQUERADE
iptables -t mangle -A OUTPUT -j MARK --set-mark 7
ip6tables -A INPUT -p tcp --dport 9000 -j REJECT
iptables-save | grep -c -e '^-A'
iptables -V
for port in 9000 9001 9002; do nc -ll -p $port -e echo heard $port & done
while ! nc 127.0.0.1 9001 < /dev/null | grep -q heard; do :; done
nc -w 5 127.0.0.1 9000 < /dev/null || echo refused
nc -w 5 192.0.2.1 80 < /dev/null
nc -w 5 192.0.2.2 80 < /dev/null
readlink /sys/class/net/eth0/device/driver
ip -4 -o addr show dev eth0
"""


def test_a_process_has_a_packet_filter(
    tiny_image: BootImage, tool: Callable[[str], str], tmp_path: Path
) -> None:
    iptables = Path(tool("xtables-nft-multi"))
    plugins = sorted(Path("/usr/lib/x86_64-linux-gnu/xtables").glob("*.so"))
    assert plugins
    names = ("iptables", "ip6tables", "iptables-save")

    def add(target: Path) -> None:
        copy_with_libraries(target.parents[1], iptables, plugins=plugins, names=names)

    link = disk.build(tmp_path, programs={"iptables": add})
    run = RunConfig(
        args=("/bin/sh", "-c", FILTER), host_config=HostConfig(add_capabilities=("NET_ADMIN",))
    )
    network = {"interfaces": [{"mac": MAC, "dhcp": True, "slaac": True}]}
    with (
        booted(tmp_path, link, run, boot=tiny_image, network=network, devices=CARD) as machine,
        served(machine) as host,
    ):
        main = host.processes[0]
        host.wait(lambda: main.code is not None, BOOT_SECONDS)
        assert main.code == 0, (main.stdout, main.stderr, machine.console())
    rules, version, refused, redirected, translated, driver, address = (
        main.stdout.decode().splitlines()
    )
    assert int(rules) == 9
    assert "nf_tables" in version
    assert (refused, redirected, translated) == ("refused", "heard 9001", "heard 9001")
    assert driver.endswith("/vmxnet3")
    assert " 10.0.2.15/24 " in address


def test_it_runs_the_demo_image(
    tiny_image: BootImage, demo_layout: Path, saltflat: Saltflat, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    folder = tiny_image.kernel.parent
    shutil.copytree(folder, store / "boot" / folder.name)
    set_default(Store(store), tiny_image)
    command = ["/bin/sh", "-c", "uname -r; id -un"]
    said = saltflat.good(
        *("-q", "run", "--rm", "--store", store, "--entrypoint", command[0]),
        *(f"oci:{demo_layout}:1", *command[1:]),
    )
    assert said.decode().split() == [tiny_image.kernel_version, "app"]
