"""A program of another package: what it says comes back, and its absence names the package."""

from __future__ import annotations

import pytest

from converter.errors import NotFoundError
from converter.programs import lines_of, run_to_end


def test_what_it_said_and_how_it_ended_come_back(tmp_path):
    done = run_to_end(
        "sh",
        ["-c", 'pwd -P; cat; echo "$TOLD: no \xff" >&2; exit 3'],
        package="dash",
        stdin=b"in\0",
        folder=tmp_path,
        environment={"TOLD": "why"},
    )
    assert (done.returncode, done.stdout) == (3, f"{tmp_path.resolve()}\nin\0".encode())
    assert lines_of(done.stderr) == ["why: no \xff"]


def test_one_that_is_not_there_is_an_error_with_its_package():
    with pytest.raises(NotFoundError, match="saltflat-none is not installed") as caught:
        run_to_end("saltflat-none", [], package="nothing")
    assert caught.value.hint == "Install it: apt-get install nothing"
