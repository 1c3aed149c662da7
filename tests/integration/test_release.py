"""The release: built from what is under version control, installed alone, and used.

The source distribution is made from a copy of the tracked files, the wheel from the source
distribution, and what the wheel installs has no source tree beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import small
from tests.images.cache import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.vm]

BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Installed:
    """What was built, and an environment that has the wheel and what it depends on."""

    sdist: Path
    wheel: Path
    prefix: Path
    folder: Path

    def __call__(self, *command: str | Path, **settings: str) -> str:
        """Run a program of the environment to a good end; return its standard output."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "SALTFLAT_"))
        }
        path = f"{self.prefix / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        home = {"HOME": str(self.folder), "SALTFLAT_STORE": str(self.folder / "store")}
        home["SALTFLAT_STATE"] = str(self.folder / "state")
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**clean, "PATH": path, **home, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(
    tool: Callable[[str], str],
    lacking: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Installed:
    """Return the release, built and installed without any network."""
    folder = tmp_path_factory.mktemp("release")
    if not (ROOT / ".git").exists():
        lacking("no clone: what a release is made of is what git has")
    sdist = _build("sdist", _clean_copy(folder / "clone", tool("git")), folder / "dist")
    subprocess.run([tool("tar"), "-xf", sdist, "-C", folder], check=True, timeout=60)
    wheel = _build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "dist")
    prefix = folder / "environment"
    venv.create(prefix, symlinks=True)
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    # The dependencies come from here. The project itself does not: how an editable installation
    # is found stands in a .pth file, and those count in an environment's own folder only.
    (libraries / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", prefix / "bin" / "python", "install"]
    options = ["--quiet", "--no-index", "--disable-pip-version-check", "--ignore-installed"]
    subprocess.run([*pip, *options, "--no-deps", wheel], check=True, timeout=100)
    home = folder / "home"
    home.mkdir()
    return Installed(sdist, wheel, prefix, home)


def _clean_copy(target: Path, git: str) -> Path:
    """Copy what a clone would have, and what a commit would add to it."""
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():  # not removed meanwhile
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    return target


def _build(kind: str, source: Path, target: Path) -> Path:
    """Build a distribution as pip does in an environment that has what building needs."""
    before = set(target.glob("*"))
    subprocess.run(
        [sys.executable, "-c", BUILD.format(kind), target],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (made,) = set(target.glob("*")) - before
    return made


def test_it_has_everything_and_nothing_else(installed: Installed) -> None:
    where = installed("python", "-c", "import converter; print(converter.__file__)")
    assert Path(where.strip()).is_relative_to(installed.prefix)
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
    packages = {"agent", "converter", "tinykernel"}
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("saltflat-")} == packages
    inside = {name for name in names if name.partition("/")[0] in packages}
    sources = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == sources


def test_pages_and_completion_are_where_programs_look_for_them(
    installed: Installed, tool: Callable[[str], str]
) -> None:
    share = installed.prefix / "share"
    pages = {path.name for path in (share / "man" / "man1").iterdir()}
    assert pages == {path.name for path in (ROOT / "docs" / "man").iterdir()}
    found = installed(tool("man"), "-w", "saltflat-convert", MANPATH=str(share / "man"))
    assert Path(found.strip()) == share / "man" / "man1" / "saltflat-convert.1"
    ask = (
        'source "$1"; COMP_WORDS=(saltflat conv) COMP_CWORD=1; '
        '_saltflat_completion saltflat; echo "${COMPREPLY[*]}"'
    )
    script = share / "bash-completion" / "completions" / "saltflat"
    assert installed("bash", "-c", ask, "bash", script).split() == ["convert"]
    for file in ("zsh/site-functions/_saltflat", "fish/vendor_completions.d/saltflat.fish"):
        assert "_SALTFLAT_COMPLETE" in (share / file).read_text()


def test_pages_are_printed_without_a_warning(tool: Callable[[str], str]) -> None:
    pages = sorted((ROOT / "docs" / "man").iterdir())
    command = [tool("groff"), "-man", "-ww", "-Tutf8", *pages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    for page in pages:
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"):
            assert f"\n.SH {section}\n" in page.read_text(), f"{page.name} has no {section}"


def test_it_converts_builds_a_boot_image_and_runs(
    installed: Installed, boot_store: Path, tool: Callable[[str], str]
) -> None:
    tool("busybox")
    layout = installed.folder / "layout"
    small.build(layout)
    store = installed.folder / "store"
    shutil.copytree(boot_store / "cache" / "packages", store / "cache" / "packages")
    installed("saltflat", "convert", f"oci:{layout}:latest", "-o", installed.folder / "bundle")
    installed("saltflat", "verify", installed.folder / "bundle", "--image", f"oci:{layout}:latest")
    installed("saltflat", "boot", "build")
    said = installed("saltflat", "run", "--rm", installed.folder / "bundle")
    assert said == f"{small.SAYS}layer 3\n"
