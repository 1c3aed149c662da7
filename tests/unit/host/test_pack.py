"""The archive that a guest is sent: Python's tarfile reads it back."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile

import pytest

from agent.host.client.pack import pack
from agent.host.errors import CopyError


class Kept(io.BytesIO):
    """Keep what is written, though tarfile closes nothing of ours."""


def packed(source, name, *, keep_owners=False):
    kept = Kept()
    pack(kept, os.fspath(source), name, keep_owners=keep_owners)
    with tarfile.open(fileobj=io.BytesIO(kept.getvalue())) as archive:
        return {m.name: (m, archive.extractfile(m).read() if m.isreg() else b"") for m in archive}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "b").write_bytes(b"b" * 70_000)
    os.link(root / "b", root / "sub" / "same")
    (root / "run").write_bytes(b"#!")
    (root / "run").chmod(0o4755)
    (root / "away").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    (root / "sub" / ("long" * 50)).write_bytes(b"")
    return root


def test_a_tree_is_what_it_was(tree):
    got = packed(tree, "new")
    assert list(got) == [
        "new",
        "new/away",
        "new/b",
        "new/pipe",
        "new/run",
        "new/sub",
        f"new/sub/{'long' * 50}",
        "new/sub/same",
    ]
    assert got["new/b"][1] == b"b" * 70_000
    assert (got["new/sub/same"][0].islnk(), got["new/sub/same"][0].linkname) == (True, "new/b")
    assert (got["new/away"][0].issym(), got["new/away"][0].linkname) == (True, "/etc/passwd")
    assert got["new/run"][0].mode == 0o4755
    assert got["new/pipe"][0].isfifo()
    assert {(m.uid, m.gid, m.uname, m.gname) for m, _ in got.values()} == {(0, 0, "", "")}
    assert got["new/run"][0].mtime == pytest.approx((tree / "run").stat().st_mtime, abs=1e-6)


def test_contents_alone_have_no_folder_above_them(tree):
    assert "b" in packed(tree, None)
    assert "." not in packed(tree, None)


def test_one_file(tree):
    assert [m.name for m, _ in packed(tree / "run", "other").values()] == ["other"]


@pytest.mark.root
def test_owners_are_kept_when_that_is_asked_for(tree):
    os.chown(tree / "run", 1234, 5678)
    member, _ = packed(tree, "t", keep_owners=True)["t/run"]
    assert (member.uid, member.gid) == (1234, 5678)


def test_what_cannot_be_copied_is_left_out(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "sock"))
        assert stat.S_ISSOCK((tmp_path / "sock").stat().st_mode)
        assert list(packed(tmp_path, "t")) == ["t"]


def test_a_file_that_shrinks_is_an_error(tree, monkeypatch):
    size = os.fstat
    monkeypatch.setattr(
        "agent.host.client.pack.os.fstat",
        lambda fd: os.stat_result((*size(fd)[:6], size(fd).st_size + 1, *size(fd)[7:10])),
    )
    with pytest.raises(CopyError, match="cannot be read whole"):
        packed(tree, "t")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CopyError, match="No such file"):
        packed(tmp_path / "none", "t")
