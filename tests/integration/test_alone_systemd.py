"""tether.pyz as a service of a Debian that boots by itself: systemd is PID 1 of a real machine.

The image is what docs/agent.md tells to make. The boot image lends its kernel and its drivers; its
init here only mounts the disk and becomes systemd, as an image's own initramfs would.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.machine.model import RunConfig
from tests.guests import disk, own_init
from tests.guests.host import GuestHost, Record, booted, served
from tests.images import prepared
from tinykernel import zipapp

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.root]

_CAPACITY_BYTES = 768 << 20
_BOOT_SECONDS = 240.0

_INIT = """
import os, sys

sys.path.insert(0, "/usr/lib/saltflat")
from agent.tether import c_linux, disks, modules, syscalls, uevents

for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
    syscalls.mount(kind, target, kind)
with uevents.UeventListener() as events:
    loader = modules.read_order()
    ids = modules.read_pci_ids()
    wanted = modules.drivers_for(ids) + modules.drivers_for(ids, modules.PORT_DRIVERS)
    for name in (*wanted, "ext4", "qemu_fw_cfg"):
        loader.load(name)
    device, superblock = disks.find_root(%r, events)
    disks.mount(device, superblock, "/newroot", "the root disk")
for target in ("/proc", "/sys", "/dev"):
    syscalls.mount(target, "/newroot" + target, None, c_linux.MS_MOVE)
os.chdir("/newroot")
syscalls.mount(".", "/", None, c_linux.MS_MOVE)
os.chroot(".")
os.chdir("/")
os.execv("/sbin/init", ["/sbin/init"])
"""


@pytest.fixture
def link(tool: Callable[[str], str], tmp_path: Path) -> Path:
    for name in ("mmdebstrap", "mke2fs", "qemu-img", "qemu-system-x86_64", "setpriv"):
        tool(name)
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)  # the kernel's own is mounted there; nodes are no files
    parts = [part for part in prepared.systemd_root().iterdir() if part.name != "dev"]
    subprocess.run(["cp", "-a", "--", *parts, root], check=True, timeout=120)
    program = root / "usr/local/lib/saltflat/tether.pyz"
    program.parent.mkdir(parents=True)
    zipapp.write(program, zipapp.make_zipapp())
    unit = root / "etc/systemd/system/tether.service"
    unit.write_text(zipapp.systemd_unit())
    wants = unit.parent / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit.name).symlink_to(f"../{unit.name}")  # systemctl enable
    return disk.make(tmp_path, root, capacity_bytes=_CAPACITY_BYTES)


def shell(host: GuestHost, number: int, script: str) -> Record:
    record = host.start(number, args=["/bin/sh", "-c", script])
    host.wait(lambda: record.closed, 60)
    return record


@pytest.mark.timeout(480)
def test_a_life_under_systemd(link: Path, tmp_path: Path) -> None:
    initrd = own_init.with_script_alone((_INIT % disk.ROOT_UUID).encode(), tmp_path / "initrd")
    run = RunConfig(args=("/bin/sh", "-c", "trap 'echo stopped; exit 3' TERM; read x"), stdin=True)
    with booted(
        tmp_path,
        link,
        run,
        alone=True,
        change=functools.partial(own_init.booting, initrd),
        memory_mib=512,
        capacity_bytes=_CAPACITY_BYTES,
    ) as machine:
        with served(machine) as host:
            try:
                host.wait(lambda: "started" in host.processes[0].messages, _BOOT_SECONDS)
            except TimeoutError:
                pytest.fail(machine.console())
            said = shell(host, 1, "cat /proc/1/comm; systemctl is-active tether; id -u; pwd")
            assert said.stdout == b"systemd\nactive\n0\n/\n"
            # The document was in QEMU's item: it is out of reach without the driver.
            assert shell(host, 2, "ls /sys/firmware/qemu_fw_cfg").code == 2
            group = shell(host, 3, "cat /proc/self/cgroup")
            assert group.stdout == b"0::/system.slice/tether.service\n"
            verified = shell(host, 5, "systemd-analyze verify --man=no tether.service 2>&1")
            assert (verified.code, verified.stdout) == (0, b"")
            # It ends with its service, in order, and the machine goes on to its own end.
            shell(host, 4, "systemctl --no-block poweroff")
            host.wait(lambda: host.processes[0].code is not None, 120)
            assert (host.processes[0].code, host.processes[0].stdout) == (3, b"stopped\n")
            host.wait(lambda: not machine.machine.is_alive(), 120)
        assert machine.machine.wait(0) == 0
