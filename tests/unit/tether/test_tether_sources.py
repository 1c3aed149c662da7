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
        "tether.config=",
        "tether.config=file:a",
        "tether.config=fw_cfg:x",
    ],
)
def test_no_source(line):
    with pytest.raises(StartError, match=r"tether\.config"):
        sources.choose_source(line, LOADER)


class Fake:
    """A place with a document, or with none."""

    def __init__(self, raw: bytes | None, *, renews: bool = False) -> None:
        self.raw = raw
        self.renews = renews
        self.asked: list[str] = []

    def read(self) -> bytes:
        self.asked.append("read")
        if self.raw is None:
            raise StartError("config", "nothing here")
        return self.raw

    def forget(self) -> None:
        self.asked.append("forget")

    def look_again(self) -> bytes | None:
        self.asked.append("look")
        return self.raw


def test_the_first_place_with_a_document_counts_and_only_it_is_erased():
    places = [Fake(None), Fake(b"second", renews=True), Fake(b"third")]
    source = sources.FirstOf(places)
    assert not source.renews
    source.forget()
    assert source.look_again() is None
    assert source.read() == b"second"
    source.forget()
    assert source.renews
    assert source.look_again() == b"second"
    assert [place.asked for place in places] == [["read"], ["read", "forget", "look"], []]


def test_no_place_has_a_document():
    with pytest.raises(StartError, match="no document: nothing here; nothing here") as caught:
        sources.FirstOf([Fake(None), Fake(None)]).read()
    assert caught.value.kind == "config"


class FakeGuestInfo:
    """VMware's variables, with or without a document."""

    def __init__(self, raw: bytes | None) -> None:
        self.place = Fake(raw)

    def source(self) -> Fake:
        return self.place


@pytest.mark.parametrize(
    ("guestinfo", "fw_cfg", "file", "expected"),
    [
        (b"g", b"q", b"f", b"g"),
        (None, b"q", b"f", b"q"),
        (None, None, b"f", b"f"),
        ("not VMware's", None, b"f", b"f"),
        ("not VMware's", b"q", None, b"q"),
    ],
)
def test_without_a_word_the_order_is_fixed(
    monkeypatch, tmp_path, guestinfo, fw_cfg, file, expected
):
    for name, raw in (("item", fw_cfg), ("file", file)):
        if raw is not None:
            (tmp_path / name).write_bytes(raw)
    monkeypatch.setattr(sources, "FW_CFG_FILE", os.fspath(tmp_path / "item"))
    shared = None if guestinfo == "not VMware's" else FakeGuestInfo(guestinfo)
    where = os.fspath(tmp_path / "file")
    source = sources.choose_source("quiet xtether.config=x", LOADER, shared, file=where)
    assert source.read() == expected


def test_without_a_word_and_a_document(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "FW_CFG_FILE", os.fspath(tmp_path / "item"))
    with pytest.raises(StartError, match="no document: config cannot be read from"):
        sources.choose_source("quiet", LOADER).read()


@pytest.mark.parametrize(
    ("source", "renews"),
    [(sources.FwCfgSource(LOADER), False), (sources.FileSource("/none"), True)],
)
def test_only_where_another_may_come_it_is_looked_for(source, renews):
    assert source.renews is renews
