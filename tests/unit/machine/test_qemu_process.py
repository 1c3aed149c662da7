"""The process around QEMU, tried with small programs: its end, its logs, its folder, its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converter.errors import NotFoundError
from converter.machine.process import QemuProcess, qemu_version

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "machine"
    made.mkdir(mode=0o700)
    return made


def test_its_own_end_is_reported(folder: Path) -> None:
    with QemuProcess(["sh", "-c", "exit 3"], folder, temporary=True) as machine:
        assert machine.wait(10) == 3
        assert not machine.is_alive()
        machine.kill()
    assert not folder.exists()


def test_leaving_kills_it_and_removes_its_folder(folder: Path) -> None:
    with QemuProcess(["sleep", "600"], folder, temporary=True) as machine:
        assert machine.is_alive()
        assert machine.wait(0) is None
    assert machine.wait(0) == -signal.SIGKILL
    assert not folder.exists()


def test_a_named_machines_folder_stays(folder: Path) -> None:
    with QemuProcess(["true"], folder, temporary=False) as machine:
        machine.wait(10)
    assert folder.is_dir()


def test_an_error_on_the_way_cleans_up_as_well(folder: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        QemuProcess(["sleep", "600"], folder, temporary=True) as machine,
    ):
        raise KeyboardInterrupt
    assert not machine.is_alive()
    assert not folder.exists()


def test_what_it_says_is_kept_only_at_its_end(folder: Path) -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x >&2; printf '\\377last words' >&2"
    with QemuProcess(["sh", "-c", script], folder, temporary=True) as machine:
        assert machine.wait(10) == 0
        assert machine.log().endswith("\N{REPLACEMENT CHARACTER}last words")
        assert len(machine.log()) <= 16384
        assert machine.console() == ""


def test_it_dies_with_a_parent_that_is_killed(folder: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from converter.machine.process import QemuProcess\n"
        "QemuProcess(['sh', '-c', 'echo $$ > pid; mv pid started; exec sleep 600'],"
        " pathlib.Path(sys.argv[1]), temporary=True)\n"
        "sys.stdin.read()\n"
    )
    started = folder / "started"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, cwd=ROOT
    ) as parent:
        assert _until(started.exists)
        child = int(started.read_text())
        assert _runs(child)
        parent.kill()
        assert parent.wait(10) == -signal.SIGKILL
    assert _until(lambda: not _runs(child))


def test_ctrl_c_does_not_reach_it(folder: Path) -> None:
    with QemuProcess(["sleep", "600"], folder, temporary=True) as machine:
        assert os.getpgid(machine.pid) != os.getpgid(0)


def test_a_missing_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError) as caught:
        qemu_version()
    assert "apt-get install qemu-system-x86" in str(caught.value.hint)


def _runs(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
