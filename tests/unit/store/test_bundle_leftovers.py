"""What processes left beside a bundle that died while they wrote it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from converter import atomic
from converter.store.bundle import read_bundle, write_bundle
from converter.store.layout import Store
from converter.store.links import disk_path
from tests.unit.store.small_store import PARAMETERS, image_of, make_link

DEAD = 2**22 + 1  # above the kernel's largest process id


def _write(folder: Path, *, force: bool = False) -> None:
    store = Store(folder.parent.parent / "store")
    link = make_link(store, "", "base")
    disk = disk_path(store, link.link_id)
    write_bundle(folder, image_of(["base"]), PARAMETERS, (link,), (disk,), force=force)
    read_bundle(folder)


def _left(path: Path, *, old: bool = True) -> Path:
    (path / "disk").mkdir(parents=True)
    (path / "disk" / "half.vmdk").write_bytes(b"half")
    if old:
        os.utime(path, (1, 1))
    return path


def test_the_next_bundle_of_that_name_removes_what_was_abandoned(tmp_path: Path) -> None:
    folder = tmp_path / "bundles" / "app"
    beside = folder.parent
    gone = [_left(beside / f".tmp-{DEAD}-{number}-app") for number in (0, 1)]
    stay = [
        _left(beside / f".tmp-{DEAD}-2-app", old=False),  # its writer may be on another host
        _left(beside / f".tmp-{os.getpid()}-9999-app"),
        _left(beside / f".tmp-{DEAD}-0-another-app"),
        _left(beside / ".tmp-app"),
    ]
    _write(folder)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stay)


def test_a_replacement_that_fails_gives_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundles" / "app"
    _write(folder)
    rename = Path.rename

    def fail_to_replace(self: Path, target: Path) -> Path:
        if target == folder and not list(folder.parent.glob("app")):
            monkeypatch.undo()  # what follows may rename again
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_replace)
    with pytest.raises(KeyboardInterrupt):
        _write(folder, force=True)
    assert [path.name for path in folder.parent.iterdir()] == ["app"]
    read_bundle(folder)


def test_leftovers_of_a_process_that_had_our_id_are_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundles" / "app"
    _write(folder)
    old = _left(folder.parent / f".tmp-{os.getpid()}-100-app")
    new = _left(folder.parent / f".tmp-{os.getpid()}-101-app")
    monkeypatch.setattr(atomic, "_serial", itertools.count(100))
    _write(folder, force=True)
    assert sorted(path.name for path in folder.parent.iterdir()) == [old.name, new.name, "app"]
