"""Finding the program, with Docker's codes: 127 when there is none, 126 when it cannot run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.tether import child
from agent.tether.errors import CANNOT_INVOKE, NOT_FOUND, StartError
from agent.tether.poller import Poller
from agent.tether.probes import Probe
from agent.tether.relayed import Relayed
from tests.unit.tether.loop_host import guest_line, spawn, spawn_on_terminal

OPEN = Path("/proc/self/fd")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, mode in {
        "one/tool": 0o755,
        "one/data": 0o644,
        "two/tool": 0o755,
        "two/data": 0o755,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        path.chmod(mode)
    (tmp_path / "one" / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "path", "expected"),
    [
        pytest.param("tool", "{0}/one:{0}/two", "{0}/one/tool", id="the first in PATH"),
        pytest.param("tool", "{0}/none:{0}/two", "{0}/two/tool", id="folders may be missing"),
        pytest.param(
            "data", "{0}/one:{0}/two", "{0}/two/data", id="runc: not executable is passed over"
        ),
        pytest.param("tool", "one", "one/tool", id="PATH may be relative to the working directory"),
        pytest.param("./one/tool", "", "./one/tool", id="by relative path"),
        pytest.param("{0}/two/tool", "{0}/one", "{0}/two/tool", id="by absolute path"),
    ],
)
def test_found(tree, command, path, expected):
    found = child.find_command(command.format(tree), path.format(tree))
    assert found == expected.format(tree)


@pytest.mark.parametrize(
    ("command", "path", "code", "why"),
    [
        pytest.param("nope", "{0}/one", NOT_FOUND, r"not found in \$PATH", id="nowhere in PATH"),
        pytest.param("data", "{0}/one", NOT_FOUND, r"not found in \$PATH", id="only as data"),
        pytest.param("folder", "{0}/one", NOT_FOUND, r"not found in \$PATH", id="only as a folder"),
        pytest.param("tool", None, NOT_FOUND, r"not found in \$PATH", id="no PATH"),
        pytest.param("", "{0}/one", NOT_FOUND, r"not found in \$PATH", id="an empty name"),
        pytest.param("./nope", "{0}/one", NOT_FOUND, "No such file", id="a path to nothing"),
        pytest.param("one/data", "", CANNOT_INVOKE, "permission denied", id="a path to data"),
        pytest.param("./one", "", CANNOT_INVOKE, "is a directory", id="a path to a folder"),
        pytest.param(
            "one/tool/x", "", CANNOT_INVOKE, "Not a directory", id="a path through a file"
        ),
        pytest.param("./loop", "", CANNOT_INVOKE, "symbolic links", id="a path to a loop"),
    ],
)
def test_not_found(tree, command, path, code, why):
    with pytest.raises(StartError, match=why) as caught:
        child.find_command(command, path and path.format(tree))
    assert (caught.value.kind, caught.value.code) == ("command", code)


def test_account_file_is_read_only_if_it_is_one(tmp_path):
    (tmp_path / "passwd").write_bytes(b"\xff:x:1:1:::\n")
    os.mkfifo(tmp_path / "fifo")
    assert child._read_account_file(os.fspath(tmp_path / "passwd")) == "\udcff:x:1:1:::\n"
    assert child._read_account_file(os.fspath(tmp_path / "fifo")) == ""
    assert child._read_account_file(os.fspath(tmp_path)) == ""
    assert child._read_account_file(os.fspath(tmp_path / "none")) == ""


@pytest.mark.parametrize("start", [spawn, spawn_on_terminal])
@pytest.mark.parametrize("is_check", [False, True])
def test_who_is_abandoned_while_it_starts_leaves_no_descriptor(lines, start, is_check):
    endpoint, poller = guest_line(lines[0]).endpoint, Poller()
    before = sorted(OPEN.iterdir())
    launch = start("sleep 60")
    if is_check:
        abandoned = Probe(launch, poller, on_over=pytest.fail)
    else:
        abandoned = Relayed(4, launch, endpoint, poller, on_start=pytest.fail, on_over=pytest.fail)
    abandoned.abandon()
    abandoned.end(os.waitpid(launch.pid, 0)[1])
    assert sorted(OPEN.iterdir()) == before
    poller.close()
