"""The debug image: a shell beside tether, before it, and when it has failed; nowhere else one."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from pathlib import Path

import pytest

from converter.machine.model import RunConfig
from tests.guests.host import Booted, booted, served
from tests.images import prepared
from tests.integration.conftest import Saltflat
from tinykernel.contents import decode_contents
from tinykernel.record import BootImage, load_boot_image
from tinykernel.verify.findings import Fault
from tinykernel.verify.image import verify_boot_image

pytestmark = pytest.mark.integration

BOOT_SECONDS = 90.0
PROMPT = b"tether-debug# "


@pytest.fixture(scope="module")
def debug_store(boot_store: Path) -> Path:
    return prepared.boot_debug_store()


@pytest.fixture(scope="module")
def image(debug_store: Path) -> BootImage:
    images = [load_boot_image(record.parent) for record in debug_store.glob("boot/*/boot.json")]
    (found,) = (image for image in images if image.debug)
    return found


class Shell:
    """The host's end of the debug shell's port."""

    def __init__(self, machine: Booted) -> None:
        self._machine = machine
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                self._socket.connect(str(machine.folder / "debug.sock"))
                break
            except OSError:  # QEMU has not made it yet
                assert time.monotonic() < deadline, machine.machine.log()
                time.sleep(0.02)
        self._socket.settimeout(0.5)
        self._said = b""

    def close(self) -> None:
        self._socket.close()

    def wait_for_prompt(self) -> None:
        """Press Return until there is a shell that answers."""
        deadline = time.monotonic() + BOOT_SECONDS
        while PROMPT not in self._said:
            assert time.monotonic() < deadline, (self._said, self._machine.console())
            self._socket.sendall(b"\r")
            self._read()

    def run(self, command: str) -> str:
        """Return what a command says."""
        # The line is echoed: what marks the output must not stand in it.
        self._said = b""
        self._socket.sendall(f"echo be'gin'; {command}; echo e'nd'\r".encode())
        deadline = time.monotonic() + BOOT_SECONDS
        while (found := re.search(rb"\r\nbegin\r\n(.*)end\r\n", self._said, re.DOTALL)) is None:
            assert time.monotonic() < deadline, (self._said, self._machine.console())
            self._read()
        return found[1].decode().replace("\r\n", "\n")

    def leave(self) -> None:
        self._said = b""
        self._socket.sendall(b"exit\r")

    def _read(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._said += self._socket.recv(4096)


@pytest.mark.vm
def test_a_shell_beside_the_process(image: BootImage, link: Path, tmp_path: Path) -> None:
    run = RunConfig(entrypoint=("/bin/sh", "-c"), args=("echo up; read line; exit 7",), stdin=True)
    with (
        booted(tmp_path, link, run, boot=image) as machine,
        served(machine) as host,
        contextlib.closing(Shell(machine)) as shell,
    ):
        main = host.processes[0]
        host.wait(lambda: main.stdout == b"up\n", BOOT_SECONDS)
        shell.wait_for_prompt()
        assert "read line" in shell.run("cat /proc/*/cmdline | tr '\\0' ' '")
        assert " /newroot ext4 " in shell.run("cat /proc/mounts")
        shell.run(
            "{ cd /newroot; sleep 1000 & }"
        )  # holds the root disk, and must not hold up the end
        host.write(0, b"\n", end=True)
        host.wait(lambda: main.code is not None)
        assert main.code == 7
        assert machine.machine.wait(60) == 0


@pytest.mark.vm
def test_a_shell_before_tether_and_when_it_fails(
    image: BootImage, link: Path, tmp_path: Path
) -> None:
    def change(arguments: list[str]) -> list[str]:
        at = arguments.index("-fw_cfg")
        words = arguments.index("-append") + 1
        arguments[words] = arguments[words].replace("debug=ttyS2", "debug=ttyS2,start")
        return arguments[:at] + arguments[at + 2 :]  # no document: tether fails

    with (
        booted(tmp_path, link, RunConfig(), boot=image, change=change) as machine,
        contextlib.closing(Shell(machine)) as shell,
    ):
        shell.wait_for_prompt()
        assert "No such file" in shell.run("ls /newroot")
        assert "tether" not in machine.console()
        shell.leave()
        shell.wait_for_prompt()
        deadline = time.monotonic() + BOOT_SECONDS
        while "the machine goes off when the debug shell is left" not in machine.console():
            assert time.monotonic() < deadline, machine.console()
            time.sleep(0.05)
        assert "/sys/fs/cgroup cgroup2" in shell.run("cat /proc/mounts")
        assert shell.run("uname -r") == f"{image.kernel_version}\n"
        shell.leave()
        assert machine.machine.wait(60) == 0


def test_no_other_image_has_a_byte_of_it(image: BootImage) -> None:
    usual = prepared.usual_boot_image()
    names = {
        each.name: [
            content.path
            for content in decode_contents((each.folder / "contents.json").read_bytes())
            if "debug" in content.path
        ]
        for each in (usual, image)
    }
    assert names == {
        "stock": [],
        "stock-debug": [
            "usr/lib/saltflat/agent/tether/debug.pyc",
            "usr/lib/saltflat/debug",
            "usr/lib/saltflat/debug/busybox",
        ],
    }
    assert image.id != usual.id
    assert [
        found
        for found in verify_boot_image(image.folder, monitor=print)
        if isinstance(found, Fault)
    ] == []


def test_it_says_what_it_is_and_is_taken_by_its_name_alone(
    debug_store: Path, image: BootImage, saltflat: Saltflat, corner_layout: Path
) -> None:
    named = ("--store", debug_store)
    told = json.loads(saltflat.good("boot", "list", *named, "--format", "json"))["boot_images"]
    assert {(each["debug"], each["default"]) for each in told} == {(True, False), (False, True)}
    assert b"(stock-debug)" in saltflat.good("boot", "list", *named)
    assert b"debug image" in saltflat.good("boot", "verify", "stock-debug", *named)
    assert image.id not in saltflat.good("boot", "verify", *named).decode()
    done = saltflat("run", "--boot", "nothing", *named, f"oci:{corner_layout}:latest")
    assert done.returncode == 125
    assert b"There is no boot image nothing in the store." in done.stderr
