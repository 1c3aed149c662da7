"""The same image gives the same bytes here and under Debian 13.

There: another Python, another zlib, no isal, one processor, another home, time zone, locale, umask
and hash seed. Every file of every link must be equal, states and records included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration import elsewhere

pytestmark = [pytest.mark.integration, pytest.mark.root]


@dataclass(frozen=True, slots=True)
class There:
    """The Debian 13 root, and a folder of this test's own in it."""

    root: Path
    folder: Path
    chroot: str

    @property
    def inside(self) -> Path:
        """The folder as a process in there names it."""
        return Path("/") / self.folder.relative_to(self.root)

    def python(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
        """Run Python in there on one processor, with another umask and only `settings` set."""
        processor = str(min(os.sched_getaffinity(0)))
        environment = [f"{name}={value}" for name, value in settings.items()]
        shell = ["/bin/sh", "-c", 'umask 077; exec "$@"', "sh", "/usr/bin/env", "-i"]
        entered = ["taskset", "-c", processor, self.chroot, os.fspath(self.root)]
        return subprocess.run(
            [*entered, *shell, *environment, "/usr/bin/python3", *arguments],
            capture_output=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def there(trixie: Path, tool: Callable[[str], str]) -> Iterator[There]:
    """Return the other environment with an empty folder in it."""
    with tempfile.TemporaryDirectory(prefix="saltflat-", dir=trixie / "srv") as folder:
        yield There(trixie, Path(folder), tool("chroot"))


@pytest.fixture(params=["corner", "demo"])
def layout(request: pytest.FixtureRequest) -> Path:
    """Return the layout of each image in turn."""
    return request.getfixturevalue(f"{request.param}_layout")


def test_there_is_elsewhere(there: There) -> None:
    probe = (
        "import importlib.util, sys, zlib\n"
        "print(sys.version_info[:2], zlib.ZLIB_RUNTIME_VERSION, importlib.util.find_spec('isal'))"
    )
    answer = there.python("-c", probe).stdout.decode().strip()
    assert answer.startswith("(3, 13) ")
    assert answer.endswith(" None")
    assert zlib.ZLIB_RUNTIME_VERSION not in answer


def test_same_bytes(saltflat, layout: Path, there: There, tmp_path: Path) -> None:
    here = tmp_path / "store"
    saltflat.good("convert", "--store", here, f"oci:{layout}:latest")

    elsewhere.copy_source(there.folder / "source")
    shutil.copytree(layout, there.folder / "image")
    (there.folder / "home").mkdir()
    done = there.python(
        *("-c", elsewhere.MAIN, "convert", "--store", f"{there.inside}/store"),
        f"oci:{there.inside}/image:latest",
        HOME=f"{there.inside}/home",
        PATH="/usr/bin:/bin",
        TZ="Pacific/Kiritimati",
        LC_ALL="C",
        PYTHONHASHSEED="4242",
        PYTHONPATH=f"{there.inside}/source",
    )
    assert done.returncode == 0, done.stderr.decode()

    expected = elsewhere.link_digests(here)
    assert any(name.endswith(".vmdk") for name in expected)
    assert elsewhere.link_digests(there.folder / "store") == expected


def test_twice_here_is_the_same(saltflat, layout: Path, tmp_path: Path) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        saltflat.afresh("convert", "--store", store, f"oci:{layout}:latest")
    assert elsewhere.link_digests(stores[0]) == elsewhere.link_digests(stores[1])
