"""Where the configuration comes from, and that it is gone after it was read."""

from __future__ import annotations

import os

import pytest

from agent.tether import config, sources
from agent.tether.errors import StartError
from agent.tether.modules import ModuleLoader

LOADER = ModuleLoader({})


def test_file_is_read_and_removed(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"{}")
    source = sources.choose_source(f"quiet tether.config=file:{path} panic=-1", LOADER)
    assert source.read() == b"{}"
    source.forget()
    assert not path.exists()


def test_too_long_a_file_is_not_read_whole(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(10 * config.MAX_DOCUMENT_BYTES)
    raw = sources.FileSource(os.fspath(path)).read()
    assert len(raw) == config.MAX_DOCUMENT_BYTES + 1
    with pytest.raises(StartError, match="at most"):
        config.load_document(raw)


def test_missing_file(tmp_path):
    with pytest.raises(StartError, match="No such file"):
        sources.FileSource(os.fspath(tmp_path / "none")).read()


def test_last_word_counts():
    line = "tether.config=file:/a tether.config=fw_cfg"
    assert isinstance(sources.choose_source(line, LOADER), sources.FwCfgSource)


@pytest.mark.parametrize(
    "line",
    [
        "quiet",
        "tether.config=",
        "tether.config=file:a",
        "tether.config=fw_cfg:x",
        "xtether.config=fw_cfg",
    ],
)
def test_no_source(line):
    with pytest.raises(StartError, match=r"tether\.config"):
        sources.choose_source(line, LOADER)
