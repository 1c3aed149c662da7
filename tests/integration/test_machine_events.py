"""What happens to a machine from outside, by QEMU's monitor: buttons, pauses, disks that grow."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.host import client
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio
from agent.tether.host_config import HostConfig
from agent.tether.restart import RestartPolicy
from converter.machine.model import GuestVolume, RunConfig
from tests.guests.host import Booted, booted
from tests.guests.relayed import relayed
from tests.integration.lifecycle import until

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

GROWING = "growing"
NEAR_SECONDS = 2.5  # what is left alone, and a second that `date` does not tell
PAUSE_SECONDS = 6.0
SMALL_BYTES, LARGE_BYTES = 32 << 20, 512 << 20


class Monitor:
    """QEMU's own protocol, to do to a machine what people and hypervisors do."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(os.fspath(path))
        self._file = self._socket.makefile("rwb")
        json.loads(self._file.readline())
        self("qmp_capabilities")

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]


class Machine:
    """A booted guest behind a relay, and QEMU's monitor."""

    def __init__(self, booted_machine: Booted, address: client.Address, monitor: Monitor) -> None:
        self.booted = booted_machine
        self.address = address
        self.monitor = monitor

    def inside(self, script: str) -> str:
        """Run a script in the guest; demand 0 and return its stdout."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            execution = client.Execution(args=("/bin/sh", "-c", script))
            status = client.execute(
                self.address, execution, Stdio(None, out.fileno(), err.fileno())
            )
            err.seek(0)
            assert status.code == 0, err.read()
            out.seek(0)
            return out.read().decode()

    def seconds_behind(self) -> float:
        """Return how far the guest's clock is behind ours, at most."""
        begun = time.time()
        there = float(self.inside("busybox date +%s"))
        return begun - there


@contextlib.contextmanager
def running(
    work: Path,
    link: Path,
    run: RunConfig,
    *,
    devices: Sequence[str] = (),
    volumes: Sequence[GuestVolume] = (),
    look_seconds: float = 900.0,
) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as short:
        path = Path(short, "qmp")
        devices = [*devices, "-qmp", f"unix:{path},server=on,wait=off"]
        options = {"look_seconds": look_seconds, "visit_look_seconds": 1.0}
        with (
            booted(work, link, run, devices=devices, volumes=volumes) as machine,
            relayed(machine, options=options) as guest,
        ):
            until(lambda: printed(guest.address) == b"up\n")
            with contextlib.closing(Monitor(path)) as monitor:
                yield Machine(machine, guest.address, monitor)


def printed(address: client.Address) -> bytes:
    entries = client.logs(address)
    return b"".join(entry.data for entry in entries if isinstance(entry, client.Output))


def shell(script: str, **members: Any) -> RunConfig:
    return RunConfig(args=("/bin/sh", "-c", script), **members)


LISTENS = "trap 'exit 6' TERM; echo up; while :; do sleep 1; done"


def test_the_power_button_is_a_stop(link: Path, tmp_path: Path) -> None:
    """A machine that QEMU is told to switch off ends as by `stop`, whatever its policy."""
    policy = HostConfig(restart=RestartPolicy("always"))
    with running(tmp_path, link, shell(LISTENS, host_config=policy)) as machine:
        machine.monitor("system_powerdown")
        assert client.wait(machine.address) == ExitStatus(6)
        assert machine.booted.machine.wait(60) == 0


@pytest.mark.parametrize("base", ["2001-02-03T04:05:06", "2037-02-03T04:05:06"])
def test_a_wrong_clock_is_set_at_hello(link: Path, tmp_path: Path, base: str) -> None:
    with running(tmp_path, link, shell(LISTENS), devices=["-rtc", f"base={base}"]) as machine:
        until(lambda: abs(machine.seconds_behind()) < NEAR_SECONDS)


def test_a_clock_that_stood_still_is_set(link: Path, tmp_path: Path) -> None:
    """A machine that was suspended does not know it: it is told to look when somebody comes."""
    with running(tmp_path, link, shell(LISTENS)) as machine:
        until(lambda: abs(machine.seconds_behind()) < NEAR_SECONDS)
        machine.monitor("stop")
        time.sleep(PAUSE_SECONDS)  # which is what is tested
        machine.monitor("cont")
        until(lambda: machine.seconds_behind() < NEAR_SECONDS)


def test_a_disk_that_grows_is_seen_and_its_file_system_grown(
    link: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(SMALL_BYTES)
    subprocess.run([tool("mke2fs"), "-q", "-F", "-t", "ext4", raw], check=True, timeout=60)
    node = {
        "driver": "raw",
        "node-name": GROWING,
        "file": {"driver": "file", "filename": os.fspath(raw)},
    }
    devices = ["-blockdev", json.dumps(node)]
    devices += ["-device", f"scsi-hd,bus=scsi.0,drive={GROWING},serial={GROWING}"]
    volume = GuestVolume(serial=GROWING, path="/data", read_only=False, copy=False)
    run = shell(LISTENS)
    with running(
        tmp_path, link, run, devices=devices, volumes=[volume], look_seconds=1.0
    ) as machine:

        def size_mib() -> int:
            found = machine.inside("echo more >> /data/file; busybox df -m /data | tail -n 1")
            return int(re.split(r"\s+", found)[1])

        assert size_mib() < 32
        machine.monitor("block_resize", **{"node-name": GROWING, "size": LARGE_BYTES})
        until(lambda: size_mib() > 400)
        client.stop_and_wait(machine.address)
        machine.booted.machine.wait(60)
    done = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
