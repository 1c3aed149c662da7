"""A build of the tiny kernel that is interrupted, or cannot begin, leaves nothing behind.

The source package is one of ours, and make builds it really: its kernel comes out of a FIFO, so a
build lasts until the test says so. It says nothing between its line and that: when nobody listens
any more, a word more would be the end of make.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from tests.images.cache import ROOT
from tests.images.kernels import kernel_file
from tinykernel.kernel.fragment import read_fragment
from tinykernel.kernel.tiny import FRAGMENT, QUICK_FOLDERS
from tinykernel.kernel.toolchain import missing_packages

KERNEL = kernel_file(b"")
LIMIT_SECONDS = 60
MAKEFILE = """\
tinyconfig:
\ttouch .config
olddefconfig:
\tcp full.config .config
bzImage:
\tmkdir -p arch/x86/boot
\tprintf part > arch/x86/boot/bzImage
\t@echo '  CC      init/main.o'
\t@cat {gate} > arch/x86/boot/bzImage
"""
PROGRAM = """\
import sys
from pathlib import Path
from converter.events import ignore
from tinykernel.kernel.tiny import TinyKernel
from tinykernel.packages import PackageSet

work = Path(sys.argv[1])
print("begins", flush=True)

def tell(event):
    print(event, flush=True)

kernel = TinyKernel(work).make(PackageSet(work / "set", ignore), scratch_dir=work, monitor=tell)
print(kernel.version)
"""


@dataclass(frozen=True)
class Place:
    """Where the source package and what is built are, and the FIFO that gives the kernel."""

    work: Path
    gate: Path

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self.work],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def start_until_it_compiles(self) -> subprocess.Popen[str]:
        process = self.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("StepAdvanced"):
                return process
        raise AssertionError(f"it ended with {process.wait()}")

    def kernels(self) -> list[str]:
        """Return the names in the folder of kernels."""
        return sorted(path.name for path in (self.work / "kernels").iterdir())

    def wait_until_nobody_builds(self) -> None:
        """Wait until no process reads the FIFO."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            try:
                os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def place(lacking: Callable[[str], None], tmp_path: Path) -> Place:
    if missing := missing_packages():
        lacking(f"packages are missing: {', '.join(missing)}")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    wanted = "".join(f"{line}\n" for line in read_fragment(FRAGMENT.read_text("utf-8")).values())
    source = BytesIO()
    with tarfile.open(fileobj=source, mode="w:xz") as archive:
        files = {"Makefile": MAKEFILE.format(gate=gate), "full.config": wanted}
        files |= {f"{folder}/Makefile": "" for folder in QUICK_FOLDERS}
        for name, text in files.items():
            member = tarfile.TarInfo(f"linux-source-9.9/{name}")
            member.size = len(text.encode())
            archive.addfile(member, BytesIO(text.encode()))
    work = tmp_path / "work"
    (work / "set").mkdir(parents=True)
    tarball = "usr/src/linux-source-9.9.tar.xz"
    debs = [
        deb(work / "set", "linux-source", {}, "Depends: linux-source-9.9\n"),
        deb(work / "set", "linux-source-9.9", {tarball: source.getvalue()}),
    ]
    record = {"schema": 1, "packages": debs}
    (work / "set/set.json").write_text(json.dumps(record))
    return Place(work, gate)


def deb(folder: Path, name: str, files: dict[str, bytes], fields: str = "") -> dict[str, str]:
    root = folder / f"{name}.root"
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 9.9-1\nArchitecture: all\nMaintainer: a <a@b.c>\n{fields}"
    (root / "DEBIAN/control").write_text(f"{control}Description: sample\n")
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    made = folder / f"{name}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, made]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
    return {"name": name, "version": "9.9-1", "sha256": sha256, "file": made.name}


def build_to_the_end(place: Place) -> None:
    """Build a kernel, and look at all that is there then."""
    with place.start() as process:
        writer = threading.Thread(target=place.gate.write_bytes, args=(KERNEL,))
        writer.start()
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
        writer.join()
    assert process.returncode == 0
    assert output.endswith("6.1.0-test\n")
    (folder,) = [name for name in place.kernels() if name != "lock"]
    assert {path.name for path in (place.work / "kernels" / folder).iterdir()} == {
        "vmlinuz",
        "config",
        "sums.json",
    }
    assert (place.work / "kernels" / folder / "vmlinuz").read_bytes() == KERNEL


def test_a_kill_leaves_no_final_name_and_the_next_build_clears_up(place: Place) -> None:
    with place.start_until_it_compiles() as process:
        process.kill()
    left = [name for name in place.kernels() if name != "lock"]
    assert left
    assert all(name.startswith(".tmp-") for name in left)
    with place.gate.open("wb"):  # what make still waits for
        pass
    place.wait_until_nobody_builds()
    build_to_the_end(place)


def test_an_interrupt_ends_all_compilers_and_leaves_nothing(place: Place) -> None:
    with place.start_until_it_compiles() as process:
        process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert place.kernels() == ["lock"]
    place.wait_until_nobody_builds()
    with (place.work / "kernels/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    build_to_the_end(place)
