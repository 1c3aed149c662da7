"""The kept package set: whole or not used, replaced only by a whole new one. apt is not run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from converter import events
from tinykernel.packages import Package, PackageSet, open_package_set


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of two packages in a folder; running apt fails the test."""
    monkeypatch.setattr(PackageSet, "_apt", _no_apt)
    folder = tmp_path / "set"
    folder.mkdir()
    write_set(folder, {"one.deb": package(tmp_path, "one"), "two.deb": package(tmp_path, "two")})
    return folder


def _no_apt(*_arguments: object, **_options: object) -> None:
    raise AssertionError("apt was run")


def package(folder: Path, name: str) -> bytes:
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\n"
        "Pre-Depends: libc6\nDepends: x (>= 1) | y, z\nDescription: sample\n"
    )
    deb = folder / f"{name}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(deb)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return deb.read_bytes()


def write_set(folder: Path, files: dict[str, bytes]) -> None:
    entries = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(
            {"name": name.removesuffix(".deb"), "version": "1", "sha256": digest, "file": name}
        )
    (folder / "set.json").write_text(json.dumps({"schema": 1, "packages": entries}))


def test_kept_packages_are_served_without_apt(kept: Path) -> None:
    packages = PackageSet(kept, events.ignore)
    one = packages.fetch("one")
    assert packages.was_kept
    assert (one.name, one.version) == ("one", "1")
    assert packages.path(one).read_bytes() == (kept / "one.deb").read_bytes()
    assert packages.holds("one", one.sha256)
    assert not packages.holds("one", "00" * 32)
    assert not packages.holds("three", one.sha256)


def test_dependencies_are_read_from_the_package(kept: Path) -> None:
    packages = PackageSet(kept, events.ignore)
    assert packages.requires(packages.fetch("one")) == [("libc6",), ("x", "y"), ("z",)]


@pytest.mark.parametrize("damage", ["changed", "missing", "record", "schema", "shape"])
def test_a_set_that_is_not_whole_is_not_used_at_all(kept: Path, damage: str) -> None:
    record = kept / "set.json"
    document = json.loads(record.read_text())
    if damage == "changed":
        (kept / "two.deb").write_bytes(b"changed")
    elif damage == "missing":
        (kept / "two.deb").unlink()
    elif damage == "record":
        record.write_text("{")
    elif damage == "schema":
        record.write_text(json.dumps({**document, "schema": 2}))
    else:
        record.write_text(json.dumps({**document, "packages": [{"name": "one"}]}))
    packages = PackageSet(kept, events.ignore)
    assert not packages.was_kept
    assert not packages.holds("one", hashlib.sha256((kept / "one.deb").read_bytes()).hexdigest())


def test_a_refresh_replaces_the_set_only_when_it_succeeds(tmp_path: Path) -> None:
    def opened(*, refresh: bool):
        return open_package_set(tmp_path, monitor=events.ignore, refresh=refresh)

    data = package(tmp_path, "one")
    with opened(refresh=False) as packages:
        home = packages.folder
        write_set(home, {"one.deb": data})

    with suppress(KeyboardInterrupt), opened(refresh=True) as packages:
        assert not packages.was_kept
        write_set(packages.folder, {"half.deb": data})
        raise KeyboardInterrupt
    with opened(refresh=False) as packages:
        assert packages.folder == home
        assert packages.fetch("one") == Package(
            "one", "1", hashlib.sha256(data).hexdigest(), "one.deb"
        )

    with opened(refresh=True) as packages:
        write_set(packages.folder, {"uno.deb": data})
    with opened(refresh=False) as packages:
        assert packages.folder == home
        assert packages.fetch("uno").name == "uno"
        assert not (home / "one.deb").exists()


def test_who_waits_for_another_build_says_so(tmp_path: Path) -> None:
    seen: list[events.Event] = []
    holds = threading.Event()

    def release(event: events.Event) -> None:
        seen.append(event)
        holds.set()

    def hold() -> None:
        with open_package_set(tmp_path, monitor=events.ignore):
            began.set()
            assert holds.wait(60)

    began = threading.Event()
    other = threading.Thread(target=hold)
    other.start()
    assert began.wait(60)
    with open_package_set(tmp_path, monitor=release):
        pass
    other.join()
    (note,) = seen
    assert isinstance(note, events.Note)
    assert "another process builds a boot image" in note.text
    with open_package_set(tmp_path, monitor=seen.append):
        assert len(seen) == 1
