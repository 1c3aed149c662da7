"""Of a command that was forked tests are told the same as of one that was started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.images.prepared import SALTFLAT
from tests.integration import warm
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        pytest.param(["--version"], b"", 0, id="stdout"),
        pytest.param(["nope"], b"", 2, id="stderr"),
        pytest.param(["inspect", "docker-archive:-"], b"x" * 200_000, 5, id="stdin"),
        pytest.param(["verify", "./\udcff"], b"", 3, id="a relative path of bytes"),
    ],
)
def test_as_started(
    saltflat: Saltflat, tmp_path: Path, monkeypatch, arguments: list[str], stdin: bytes, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALTFLAT_STORE", os.fspath(tmp_path / "store"))
    environment = saltflat.whole_environment
    started = subprocess.run(
        [*SALTFLAT, *arguments], input=stdin, capture_output=True, env=environment, check=False
    )
    forked = warm.COMMANDS.run(arguments, stdin=stdin, environment=environment, timeout_seconds=60)
    assert started.returncode == code
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        *(started.returncode, started.stdout, started.stderr),
    )


def test_who_takes_too_long_is_killed(saltflat: Saltflat, tmp_path: Path) -> None:
    pipe = tmp_path / "nobody-writes"
    os.mkfifo(pipe)
    with pytest.raises(subprocess.TimeoutExpired):
        saltflat("inspect", f"docker-archive:{pipe}", timeout_seconds=1)
    with pytest.raises(OSError, match="No such device or address"):  # which no reader has
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
