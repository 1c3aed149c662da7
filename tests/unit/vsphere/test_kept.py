"""Kept sessions: whose they are, who may read them, and that nothing wrong with one is fatal."""

from __future__ import annotations

import stat

import pytest

from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Given, read_settings

ME = read_settings(Given(url="me:pw@v.example"), {})
YOU = read_settings(Given(url="you:pw@v.example"), {})


def test_a_session_is_its_server_s_and_user_s(tmp_path):
    kept = KeptSessions(tmp_path / "state")
    assert kept.load(ME) is None
    kept.save(ME, "52a-1")
    kept.save(ME, "52a-2")
    kept.save(YOU, "77")
    assert (kept.load(ME), kept.load(YOU)) == ("52a-2", "77")
    files = sorted((tmp_path / "state" / "vsphere").iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    assert all(b"pw" not in file.read_bytes() for file in files)
    kept.forget(ME)
    kept.forget(ME)
    assert (kept.load(ME), kept.load(YOU)) == (None, "77")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"schema": 2, "session": "a"}',
        b'{"schema": 1, "session": 5}',
        b'{"schema": 1, "session": "a\\r\\nX: y"}',
        b'{"schema": 1, "session": "' + b"a" * 5000 + b'"}',
    ],
)
def test_a_file_that_is_not_right_is_no_session(tmp_path, content):
    kept = KeptSessions(tmp_path)
    kept.save(ME, "a")
    (file,) = (tmp_path / "vsphere").iterdir()
    file.write_bytes(content)
    assert kept.load(ME) is None


def test_a_file_that_others_could_reach_is_not_used(tmp_path):
    kept = KeptSessions(tmp_path)
    kept.save(ME, "a")
    (file,) = (tmp_path / "vsphere").iterdir()
    file.chmod(0o640)
    assert kept.load(ME) is None
    file.chmod(0o600)
    assert kept.load(ME) == "a"
    real = tmp_path / "elsewhere"
    file.rename(real)
    file.symlink_to(real)
    assert kept.load(ME) is None
