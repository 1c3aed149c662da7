"""`saltflat run` and what stays of it: machines that go on without their client and their relay."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.host import client
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio
from converter.machine.local import LocalMachines
from converter.machine.machines import Status
from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm]

LINES = 20000


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[LocalMachines]:
    opened = LocalMachines(tmp_path / "state", accelerator="tcg")
    yield opened
    for record in opened.list():
        opened.remove(record.id, force=True)


@pytest.fixture
def run(
    saltflat: Saltflat, store: Path, tmp_path: Path, demo_layout: Path
) -> Callable[..., list[str]]:
    """Return the words of `saltflat run OPTIONS demo-image sh -c SCRIPT`."""
    places = ["--store", str(store), "--state", str(tmp_path / "state")]

    def words(script: str, *options: str) -> list[str]:
        return [
            *SALTFLAT,
            "-q",
            "run",
            *places,
            *options,
            f"oci:{demo_layout}:1",
            "sh",
            "-c",
            script,
        ]

    return words


def started(saltflat: Saltflat, words: list[str], errors: Path) -> subprocess.Popen[bytes]:
    with errors.open("wb") as file:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            env=saltflat.whole_environment,
        )


def test_a_run_whose_supervisor_is_killed_and_its_second_life(
    saltflat: Saltflat, run: Callable[..., list[str]], machines: LocalMachines, tmp_path: Path
) -> None:
    """Each byte comes once, the disk keeps what was written, and the log goes on."""
    script = (
        "echo boot >> /etc/boots; cat /etc/boots; "
        f"trap 'exit 5' TERM; i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; "
        "read word; echo got $word; while :; do sleep 1; done"
    )
    cidfile = tmp_path / "cid"
    process = started(
        saltflat,
        run(script, "-i", "-u", "root", "--name", "twice", "--cidfile", str(cidfile)),
        tmp_path / "errors",
    )
    assert process.stdout is not None
    assert process.stdin is not None
    output = b""
    while b"line 9\n" not in output:
        output += os.read(process.stdout.fileno(), 100)
    first = machines.find("twice")
    assert first.id == cidfile.read_text()
    assert (first.status, first.supervised) == (Status.RUNNING, True)
    os.kill(first.details["supervisor_pid"], signal.SIGKILL)
    process.stdin.write(b"hello\n")
    process.stdin.close()
    while not output.endswith(b"got hello\n"):
        data = os.read(process.stdout.fileno(), 65536)
        assert data, (tmp_path / "errors").read_text()
        output += data
    expected = "boot\n" + "".join(f"line {n}\n" for n in range(LINES)) + "got hello\n"
    assert output.decode().splitlines() == expected.splitlines()
    second = machines.find("twice")
    assert second.details["hypervisor_pid"] == first.details["hypervisor_pid"]
    assert second.details["supervisor_pid"] != first.details["supervisor_pid"]

    process.terminate()  # which the client passes on
    assert process.wait(60) == 5
    process.stdout.close()
    ended = machines.find("twice")
    assert (ended.status, ended.end, ended.reason) == (Status.EXITED, ExitStatus(5), "")
    assert machines.wait(first.id) == ExitStatus(5)
    # Who comes after the end gets everything, though nobody is there to ask.
    told = [e for e in client.logs(machines.address(first.id)) if isinstance(e, client.Output)]
    assert b"".join(entry.data for entry in told) == output

    machines.start(first.id)
    until(lambda: b"line 19999\n" in saved(machines, first.id)[len(output) :])
    assert saved(machines, first.id)[len(output) :].startswith(b"boot\nboot\nline 0\n")
    machines.stop(first.id, 30)
    ended = machines.find("twice")
    assert (ended.status, ended.end) == (Status.EXITED, ExitStatus(5))
    assert ended.details["hypervisor_exit"] == 0
    done = saltflat("-q", *run("true", "--cidfile", str(cidfile))[len(SALTFLAT) + 1 :])
    assert done.returncode == 125
    assert b"exists" in done.stderr


def test_the_client_may_be_killed_and_a_machine_that_removes_itself_does(
    saltflat: Saltflat, run: Callable[..., list[str]], machines: LocalMachines, tmp_path: Path
) -> None:
    process = started(
        saltflat, run("echo up; read line; exit 3", "-i", "--rm"), tmp_path / "errors"
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert os.read(process.stdout.fileno(), 100) == b"up\n"
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()
    (record,) = machines.list()
    assert (record.status, record.supervised) == (Status.RUNNING, True)
    reader, writer = os.pipe()
    os.write(writer, b"enough\n")
    os.close(writer)
    with open(os.devnull, "wb") as nowhere, open(reader, "rb") as stdin:
        stdio = Stdio(stdin.fileno(), nowhere.fileno(), nowhere.fileno())
        assert client.attach(machines.address(record.id), stdio).code == 3
    until(lambda: machines.list() == ())


def test_detached_with_a_name_and_refused_twice(
    saltflat: Saltflat, run: Callable[..., list[str]], machines: LocalMachines
) -> None:
    words = run("sleep 1000", "-d", "--name", "web")[len(SALTFLAT) :]
    identity = saltflat.good(*words).decode().strip()
    assert machines.find("web").id == identity
    assert machines.find("web").status is Status.RUNNING
    done = saltflat(*words)
    assert done.returncode == 125
    assert b"The name web is taken" in done.stderr
    machines.kill(identity, signal.SIGKILL)
    ended = machines.find("web")
    assert (ended.status, ended.end) == (Status.EXITED, ExitStatus(137, signal=9))


def saved(machines: LocalMachines, machine: str) -> bytes:
    entries = machines.saved_logs(machine)
    return b"".join(entry.data for entry in entries if isinstance(entry, client.Output))


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
