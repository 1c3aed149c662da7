"""Everything works for a user without name, home or any capability.

CI runs as uid 0, where nothing would show that a mount, a device node or a foreign owner had been
made on the host. So here a process with every capability taken away, even from its bounding set,
converts images that hold all of these, builds the boot image and runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration import elsewhere

pytestmark = [pytest.mark.integration, pytest.mark.root]
USER = 12345


@dataclass(frozen=True, slots=True)
class Nobody:
    """A user without name, with a folder of its own and the project in it."""

    folder: Path
    setpriv: str
    python_path: str

    def __call__(self, *arguments: str, timeout_seconds: float = 100) -> bytes:
        """Run `saltflat ARGUMENTS` as this user; demand exit code 0; return stdout."""
        done = self.python("-c", elsewhere.MAIN, *arguments, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def python(
        self, *arguments: str, timeout_seconds: float = 100
    ) -> subprocess.CompletedProcess[bytes]:
        """Run this test's Python version as this user."""
        environment = {
            "HOME": f"{self.folder}/home",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": f"{self.folder}/tmp",
            "PYTHONPATH": self.python_path,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        lowered = [self.setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        lowered += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        return subprocess.run(
            [*lowered, _interpreter(), *arguments],
            cwd="/",
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_seconds,
            check=False,
        )


@pytest.fixture(scope="module")
def nobody(tool: Callable[[str], str]) -> Iterator[Nobody]:
    """Return a user who shares nothing with root but the programs in /usr."""
    # Not under pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="saltflat-nobody-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = elsewhere.copy_source(folder / "source")
        for own in ("home", "tmp", "stores"):
            (folder / own).mkdir()
            os.chown(folder / own, USER, USER)
        site = sysconfig.get_paths()["purelib"]
        user = Nobody(folder, tool("setpriv"), f"{source}:{site}")
        if user.python("-c", "import click, lz4, requests, rich, zstandard").returncode:
            # The environment lies in a folder that only root may enter: take what is needed along.
            site = folder / "site"
            ignore = shutil.ignore_patterns("ruff*", "mypy*", "__pycache__", "*.pth", "pip*")
            shutil.copytree(sysconfig.get_paths()["purelib"], site, ignore=ignore)
            elsewhere.open_to_all(site)
            user = Nobody(folder, user.setpriv, f"{source}:{site}")
        yield user


@pytest.fixture(params=["corner", "demo"])
def layout(request: pytest.FixtureRequest, nobody: Nobody) -> Path:
    """Return a copy of each image's layout that the user may read."""
    target = nobody.folder / f"{request.param}-image"
    if not target.exists():
        shutil.copytree(request.getfixturevalue(f"{request.param}_layout"), target)
        elsewhere.open_to_all(target)
    return target


def test_there_are_no_privileges(nobody: Nobody) -> None:
    status = nobody.python("-c", "print(open('/proc/self/status').read())").stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(USER)] * 4
    assert fields["Groups"].split() == []
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {0}


def test_convert_gives_the_same_bytes(
    nobody: Nobody, layout: Path, saltflat, tmp_path: Path
) -> None:
    source = f"oci:{layout}:latest"
    store = nobody.folder / "stores" / layout.name
    nobody("convert", "--store", f"{store}", source)
    saltflat.good("convert", "--store", tmp_path / "store", source)
    expected = elsewhere.link_digests(tmp_path / "store")
    assert any(name.endswith(".vmdk") for name in expected)
    assert elsewhere.link_digests(store) == expected
    owners = {path.stat().st_uid for path in store.rglob("*")}
    assert owners == {USER}


@pytest.mark.vm
@pytest.mark.timeout(900)
def test_build_boot_image_and_run(nobody: Nobody, demo_layout: Path, boot_store: Path) -> None:
    image = nobody.folder / "run-image"
    shutil.copytree(demo_layout, image)
    elsewhere.open_to_all(image)
    store = f"{nobody.folder}/stores/run"
    nobody("boot", "build", "--store", store, timeout_seconds=500)
    for name in ("default", "*/initrd", "*/boot.json"):  # built by root, with other packages cached
        (theirs,), (ours,) = Path(store, "boot").glob(name), (boot_store / "boot").glob(name)
        assert theirs.read_bytes() == ours.read_bytes()
    words = nobody(
        *("run", "--store", store, f"oci:{image}:1", "greet", "nobody"), timeout_seconds=300
    )
    assert words.startswith(b"Hello, nobody!\n")


def _interpreter() -> str:
    """Return the Python below the virtual environment, which other users may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = Path(sys.base_prefix) / "bin" / version
    return os.fspath(found)
