"""Names that are temporary: whose they are, and that a dead process's never stand in the way."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from converter import atomic

DEAD = 2**22 + 1  # above the kernel's largest process id
NOW = 1_000_000_000.0


def test_leftovers_of_a_process_that_had_our_id_are_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_serial", itertools.count(7))
    left = [tmp_path / f".tmp-{os.getpid()}-{number}-x" for number in (7, 8)]
    for path in left:
        path.write_bytes(b"left")
    atomic.write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert [path.read_bytes() for path in left] == [b"left", b"left"]


@pytest.mark.parametrize(
    ("process", "age_seconds", "abandoned"),
    [(DEAD, 3601, True), (DEAD, 3599, False), (os.getpid(), 3601, False), (1, 3601, False)],
    ids=["dead and old", "dead and fresh", "our own", "another's"],
)
def test_a_temp_is_abandoned_when_it_is_old_and_its_process_dead(
    tmp_path: Path, process: int, age_seconds: int, abandoned: bool
) -> None:
    temp = tmp_path / f".tmp-{process}-0-x"
    temp.mkdir()
    os.utime(temp, (NOW - age_seconds, NOW - age_seconds))
    assert atomic.is_abandoned(temp, NOW) == abandoned


def test_a_temp_that_is_gone_is_not_abandoned(tmp_path: Path) -> None:
    assert not atomic.is_abandoned(tmp_path / f".tmp-{DEAD}-0-x", time.time())


def test_folders_are_made_with_those_above_them_and_where_they_are_not(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    atomic.make_directory(deep)
    atomic.make_directory(deep)
    assert deep.is_dir()
    (tmp_path / "link").symlink_to(deep)
    atomic.make_directory(tmp_path / "link" / "d")
    assert (deep / "d").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        atomic.make_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        atomic.make_directory(tmp_path / "file" / "below")


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with atomic.atomic_directory(tmp_path / "it") as folder:
            (folder / "file").write_text(content)
        assert (tmp_path / "it" / "file").read_text() == content
    with suppress(KeyError), atomic.atomic_directory(tmp_path / "it") as folder:
        (folder / "file").write_text("third")
        raise KeyError
    assert (tmp_path / "it" / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]
