"""Programs of the tests that come as Go modules: a registry, regctl, and a vCenter's simulator.

Their versions are pinned in tests/tools/go.mod and go.sum; each is built once into the test cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.images.cache import ROOT, cache_folder, cached, fingerprint

TOOLS = ROOT / "tests" / "tools"
PROGRAMS = {
    "registry": "./registry",
    "regctl": "github.com/regclient/regclient/cmd/regctl",
    "vcsim": "./vcsim",
}
_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin")


def go_program() -> str | None:
    """Return a Go that is new enough for go.mod, or None."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (TOOLS / "go.mod").read_text(), re.MULTILINE)
    assert wanted, "go.mod names its Go"
    search = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES, os.fspath(ROOT / ".venv/bin")])
    for folder in search.split(os.pathsep):
        program = shutil.which("go", path=folder or os.curdir)
        if program is None:
            continue
        says = subprocess.run(
            [program, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
            cwd="/",
        ).stdout
        found = re.match(r"go(\d+)\.(\d+)", says)
        if found and tuple(map(int, found.groups())) >= tuple(map(int, wanted.groups())):
            return program
    return None


def go_tools() -> Path:
    """Return the folder with the programs, named as in `PROGRAMS`, building them if need be.

    Raises FileNotFoundError if there is no Go to build them with.
    """

    def build(folder: Path) -> None:
        go = go_program()
        if go is None:
            raise FileNotFoundError("there is no Go that is new enough for tests/tools/go.mod")
        folder.mkdir()
        for name, package in PROGRAMS.items():
            command = [go, "build", "-trimpath", "-buildvcs=false"]
            command += ["-ldflags=-s -w", "-o", os.fspath(folder / name), package]
            environment = {
                **os.environ,
                "GOTOOLCHAIN": "local",
                "CGO_ENABLED": "0",
                "GOFLAGS": "-mod=readonly",
            }
            subprocess.run(command, check=True, cwd=TOOLS, timeout=900, env=environment)

    sources = [TOOLS / "go.mod", TOOLS / "go.sum", *sorted(TOOLS.glob("*/*.go"))]
    key = fingerprint(sources)
    return cached(cache_folder(), "gotools", key, build)
