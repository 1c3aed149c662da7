"""What goes wrong in a guest is one clear error at its host, with Docker's code, on every line.

Each case boots a machine for each line. A virtual socket is one over virtio, whose host side is
`tests.guests.vsock`, for few test hosts have the device of the kernel's; over VMCI there is none.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from converter.machine.model import Channel, RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, Booted, GuestHost, booted, served, wait_together

pytestmark = [pytest.mark.integration, pytest.mark.vm]

_BLOCK = 4096
LINES: Mapping[str, dict[str, Any]] = {
    **{channel.value: {"channel": channel} for channel in Channel},
    "vsock": {"vsock": True},
}


def break_descriptors(raw: Path) -> None:
    """Destroy the group descriptors and leave the superblock, by which the disk is found."""
    with raw.open("r+b") as file:
        file.seek(_BLOCK if block_bytes(raw) == _BLOCK else 2 * block_bytes(raw))
        file.write(b"\xff" * block_bytes(raw))


def use_up_inodes(raw: Path) -> None:
    """Leave no inode, so that nothing can be made any more."""
    free = int(superblock(raw)["Free inodes"])
    commands = "".join(f"write /dev/null full{number}\n" for number in range(free))
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", str(raw)],
        input="mkdir /many\ncd /many\n" + commands,
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert superblock(raw)["Free inodes"] == "0", done.stderr[-500:]


def superblock(raw: Path) -> Mapping[str, str]:
    shown = subprocess.run(
        ["dumpe2fs", "-h", str(raw)], capture_output=True, text=True, timeout=60, check=True
    )
    pairs = (line.partition(":") for line in shown.stdout.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def block_bytes(raw: Path) -> int:
    return int(superblock(raw)["Block size"])


OTHER_UUID = "00000000-0000-4000-8000-000000000000"
BUILDERS: Mapping[str, Callable[[Path], Path]] = {
    "good": disk.build,
    "another's": lambda folder: disk.build(folder, uuid=OTHER_UUID),
    "broken": lambda folder: disk.build(folder, spoil=break_descriptors),
    "full": lambda folder: disk.build(folder, options=("-N", "512"), spoil=use_up_inodes),
}


@pytest.fixture(scope="module")
def disk_of(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    needed = ("busybox", "mke2fs", "debugfs", "dumpe2fs", "qemu-img", "qemu-system-x86_64")
    for name in (*needed, "setpriv"):
        tool(name)
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = BUILDERS[name](tmp_path_factory.mktemp("disk"))
        return made[name]

    return get


@pytest.mark.parametrize(
    ("which", "run", "code", "kind", "text"),
    [
        pytest.param("another's", {}, 125, "disk", disk.ROOT_UUID, id="no root disk"),
        pytest.param("broken", {}, 125, "disk", "root disk", id="broken file system"),
        pytest.param("full", {}, 125, "world", "No space left", id="full disk"),
        pytest.param(
            "good", {"args": ("a\0b",)}, 125, "config", "run.args[0]", id="a bad document"
        ),
        pytest.param("good", {"args": ("nope",)}, 127, "command", "nope", id="missing binary"),
        pytest.param("good", {"user": "ghost"}, 125, "user", "ghost", id="unknown user"),
    ],
)
def test_the_host_is_told(
    disk_of: Callable[[str], Path],
    tmp_path: Path,
    which: str,
    run: dict[str, object],
    code: int,
    kind: str,
    text: str,
) -> None:
    """On each line, a machine for each at the same time: some wait for what does not come."""
    config = RunConfig(**{"args": ("/bin/true",), **run})
    hosts: dict[str, tuple[Booted, GuestHost]] = {}
    with contextlib.ExitStack() as stack:
        for line, options in LINES.items():
            machine = stack.enter_context(booted(tmp_path, disk_of(which), config, **options))
            hosts[line] = machine, stack.enter_context(served(machine))
        there = [host for _, host in hosts.values()]
        wait_together(
            there, lambda: all(host.processes[0].code is not None for host in there), BOOT_SECONDS
        )
        machines = [machine for machine, _ in hosts.values()]
        wait_together(there, lambda: not any(one.machine.is_alive() for one in machines), 60)
        for line, (machine, host) in hosts.items():
            main = host.processes[0]
            failed = main.messages["failed"]
            assert (failed["code"], failed["kind"]) == (code, kind), line
            assert text in failed["message"], line
            assert main.messages.keys() == {"failed"}, line
            assert not main.stdout + main.stderr, line
            assert machine.machine.wait(0) == 0, line


def test_a_life_by_a_virtual_socket(disk_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The line by which no other test boots: both ways, beside each other, through a cut."""
    data = bytes(range(256)) * 4096
    config = RunConfig(args=("/bin/sh", "-c", "echo up; cat; exit 7"), stdin=True)
    with booted(tmp_path, disk_of("good"), config, vsock=True) as machine:
        with served(machine) as host:
            main = host.processes[0]
            host.wait(lambda: main.stdout == b"up\n", BOOT_SECONDS)
            beside = host.start(
                1, args=["/bin/sh", "-c", "stty size; exit 4"], tty=True, rows=30, cols=90
            )
            missing = host.start(2, args=["nope"])
            host.wait(lambda: beside.closed and missing.closed)
            assert (beside.stdout, beside.code, missing.code) == (b"30 90\r\n", 4, 127)
            host.write(0, data[:100_000])
            host.wait(lambda: len(main.stdout) > 50_000)
            host.cut()  # the guest connects again, and the session goes on
            host.wait(lambda: not main.input)
            host.write(0, data[100_000:], end=True)
            host.wait(lambda: main.code is not None)
            assert (main.code, main.stdout) == (7, b"up\n" + data)
            host.wait(lambda: not machine.machine.is_alive())
        assert machine.machine.wait(0) == 0
