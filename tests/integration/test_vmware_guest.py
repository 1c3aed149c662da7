"""A machine in vCenter's eyes, as its hypervisor sees it: one boot, from guestinfo to power-off.

The hypervisor is `tests.guests.vmx`, which open-vm-tools took for one; the sockets, the drivers and
everything in the guest are real.
"""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.machine.model import RunConfig
from converter.machine.qemu_command import CONFIG_FILE
from tests.guests import disk, vmx
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.guests.vmx_machine import as_vmware, hypervisor

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

MAC = "02:42:00:00:00:01"
MEMORY_MIB = 256
CONFIG = "guestinfo.saltflat.config"
SOURCE = Path(__file__).parents[1] / "guests/sockets.c"
NETWORK = {
    "interfaces": [{"mac": MAC, "addresses": ["10.0.2.15/24"], "gateways": ["10.0.2.2"]}],
    "wait_seconds": 0,
}
SCRIPT = "trap 'echo stopped; exit 9' TERM; echo up; while :; do sleep 0.05; done"
MAY_NOT = {
    *("vsock", "x32 vsock", "io_uring", "i386 vsock", "i386 socketcall vsock", "i386 io_uring"),
}
MAY = {"unix", "inet6", "i386 unix"}


class Vmx(vmx.Vmx):
    """A hypervisor that has a machine's document when the guest asks for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def answer(self, call: bytes) -> bytes:
        if call == b"info-get " + CONFIG.encode() and CONFIG not in self.variables:
            (document,) = self._folder.glob(f"machine-*/{CONFIG_FILE}")
            self.variables[CONFIG] = document.read_bytes()
        return super().answer(call)


def make_sockets(target: Path) -> None:
    command = ["gcc", "-static", "-no-pie", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(target)]
    subprocess.run([*command, str(SOURCE)], check=True, timeout=120)


@pytest.fixture(scope="module")
def link(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("busybox", "gcc", "mke2fs", "qemu-img", "qemu-system-x86_64"):
        tool(name)
    return disk.build(tmp_path_factory.mktemp("disk"), programs={"sockets": make_sockets})


def test_a_life_in_the_hypervisor_s_eyes(link: Path, tmp_path: Path) -> None:
    known = Vmx(tmp_path)
    card = ["-netdev", "user,id=n", "-device", f"vmxnet3,netdev=n,mac={MAC},romfile="]
    run = RunConfig(args=("/bin/sh", "-c", SCRIPT))
    with (
        hypervisor(known) as there,
        booted(
            tmp_path,
            link,
            run,
            network=NETWORK,
            devices=card,
            memory_mib=MEMORY_MIB,
            change=lambda arguments: as_vmware(arguments, there, MEMORY_MIB),
        ) as machine,
        served(machine) as host,
    ):
        main = host.processes[0]
        ask = there.ask
        host.wait(lambda: main.stdout == b"up\n", BOOT_SECONDS)
        assert known.variables[CONFIG] == b"-"

        # Its tools run, and this is how it looks.
        assert ask(b"reset") == b"OK ATR toolbox"
        assert ask(b"Capabilities_Register") == b"OK "
        assert ask(b"Set_Option broadcastIP 1") == b"OK "
        there.wait_for_heartbeat()  # when it has made its own calls
        assert b"tools.set.versiontype 2147483647 4" in known.calls
        assert known.info[1] == b"guest"
        assert known.info[6] == b"other6xlinux-64"
        assert known.info[5].startswith(b"Linux 6.")
        assert MAC.encode() in known.info[10]
        assert bytes([10, 0, 2, 15]) in known.info[10]
        assert known.variables["guestinfo.ip"] == b"10.0.2.15"

        # The process can speak with nobody of them.
        tried = host.start(1, args=["/bin/sockets"])
        host.wait(lambda: tried.closed)
        results = dict(line.rsplit(" ", 1) for line in tried.stdout.decode().splitlines())
        assert {name for name, code in results.items() if int(code) == 0} == MAY
        assert {name for name, code in results.items() if int(code) == errno.EPERM} == MAY_NOT

        # It was suspended: without a backdoor the host is asked for the time.
        assert ask(b"OS_Suspend") == b"OK "
        assert ask(b"OS_Resume") == b"OK "
        host.wait(lambda: "clock" in main.messages)

        # A restart is the process's, in order; the machine and its line stay.
        assert ask(b"OS_Reboot") == b"OK "
        host.wait(lambda: main.stdout == b"up\nstopped\nup\n")
        assert main.messages["restarting"]["code"] == 9

        assert ask(b"OS_Halt") == b"OK "
        host.wait(lambda: main.code is not None)
        assert (main.code, main.stdout) == (9, b"up\nstopped\nup\nstopped\n")
        host.wait(lambda: not machine.machine.is_alive())
        assert machine.machine.wait(0) == 0
    status = json.loads(known.variables["guestinfo.saltflat.status"])
    assert (status["type"], status["code"], status["schema"]) == ("exited", 9, 1)
    network = json.loads(known.variables["guestinfo.saltflat.network"])
    assert network["interfaces"][0]["addresses"] == ["10.0.2.15/24"]
    states = [call for call in known.calls if call.startswith(b"tools.os.statechange.status")]
    assert [state.split()[1:] for state in states] == [[b"1", b"%d" % n] for n in (5, 4, 2, 1)]
