"""What goes wrong in a guest is one clear error at its host, with Docker's code, on every line.

Each case boots a machine. vsock is not among the lines: it needs a device of the host's kernel that
few test hosts have, and what comes after the transport is the same code.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from converter.machine.model import Channel, RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, booted, served

pytestmark = [pytest.mark.integration, pytest.mark.vm]

_BLOCK = 4096


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


@pytest.mark.parametrize("channel", list(Channel))
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
        pytest.param("good", {"args": ("/opt/data",)}, 126, "command", "data", id="no program"),
        pytest.param("good", {"user": "ghost"}, 125, "user", "ghost", id="unknown user"),
    ],
)
def test_the_host_is_told(
    disk_of: Callable[[str], Path],
    tmp_path: Path,
    channel: Channel,
    which: str,
    run: dict[str, object],
    code: int,
    kind: str,
    text: str,
) -> None:
    config = RunConfig(**{"args": ("/bin/true",), **run})
    with booted(tmp_path, disk_of(which), config, channel=channel) as machine:
        with served(machine) as host:
            main = host.processes[0]
            host.wait(lambda: main.code is not None, BOOT_SECONDS)
            failed = main.messages["failed"]
            assert (failed["code"], failed["kind"]) == (code, kind)
            assert text in failed["message"]
            assert main.messages.keys() == {"failed"}
            assert not main.stdout
            assert not main.stderr
            host.wait(lambda: not machine.machine.is_alive(), 60)
        assert machine.machine.wait(0) == 0
