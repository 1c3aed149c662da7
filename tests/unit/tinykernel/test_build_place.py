"""Giving a boot image its final name: complete, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinykernel import build


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = build.write_atomic

    def full_disk_at_the_second_file(path: Path, data: bytes) -> None:
        if path.name == "initrd":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(build, "write_atomic", full_disk_at_the_second_file)
    with pytest.raises(OSError, match="No space left"):
        build._place(tmp_path / "id", {"vmlinuz": b"k", "initrd": b"i", "boot.json": b"{}"})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_folder_of_that_name_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "id"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"half")
    build._place(folder, {"vmlinuz": b"k", "initrd": b"i"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "vmlinuz": b"k",
        "initrd": b"i",
    }
    assert list(tmp_path.iterdir()) == [folder]
