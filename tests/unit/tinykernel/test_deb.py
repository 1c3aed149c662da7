"""Packages read as data: made by dpkg-deb, links followed inside, nothing extracted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError
from tinykernel.deb import control_field, dependencies, merged_path, open_deb


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: sample\nVersion: 1:2.0-3\nArchitecture: amd64\nMaintainer: a <a@b.c>\n"
        "Depends: libc6 (>= 2.36), awk | mawk\nDescription: sample\n"
    )
    (root / "lib/x86_64-linux-gnu").mkdir(parents=True)
    (root / "lib/x86_64-linux-gnu/libx.so.1.2").write_bytes(b"library")
    (root / "lib/x86_64-linux-gnu/libx.so.1").symlink_to("libx.so.1.2")
    (root / "lib64").mkdir()
    (root / "lib64/ld.so").symlink_to("/lib/x86_64-linux-gnu/libx.so.1")
    (root / "lib64/up").symlink_to("../lib/x86_64-linux-gnu/libx.so.1")
    (root / "lib64/loop").symlink_to("loop")
    (root / "lib64/out").symlink_to("../../../etc/passwd")
    deb = tmp_path / "sample.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(root), str(deb)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return deb


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/x86_64-linux-gnu/libx.so.1.2",
        "usr/lib/x86_64-linux-gnu/libx.so.1",
        "usr/lib64/ld.so",
        "usr/lib64/up",
    ],
)
def test_files_and_links_give_the_content(package: Path, tmp_path: Path, path: str) -> None:
    with open_deb(package, scratch_dir=tmp_path) as archive:
        assert path in archive
        assert archive.read(path) == b"library"


def test_links_never_leave_the_package(package: Path, tmp_path: Path) -> None:
    with open_deb(package, scratch_dir=tmp_path) as archive:
        with pytest.raises(NotFoundError, match="etc/passwd"):
            archive.read("usr/lib64/out")
        with pytest.raises(IntegrityError, match="loop of links"):
            archive.read("usr/lib64/loop")
        with pytest.raises(IntegrityError, match="not a file"):
            archive.read("usr/lib64")


def test_nothing_is_left_in_the_scratch_folder(package: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with open_deb(package, scratch_dir=scratch):
        assert list(scratch.iterdir()) == []


def test_control_fields(package: Path) -> None:
    assert control_field(package, "Version") == "1:2.0-3"
    assert control_field(package, "Pre-Depends") == ""
    clauses = dependencies(control_field(package, "Depends"))
    assert list(clauses) == [("libc6",), ("awk", "mawk")]


def test_a_damaged_package_is_an_error_with_a_hint(tmp_path: Path) -> None:
    broken = tmp_path / "broken.deb"
    broken.write_bytes(b"!<arch>\nnothing")
    with (
        pytest.raises(IntegrityError, match=r"broken\.deb cannot be read") as caught,
        open_deb(broken, scratch_dir=tmp_path),
    ):
        pass
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./lib/modules/x", "usr/lib/modules/x"),
        ("./usr/lib/x", "usr/lib/x"),
        ("/boot/vmlinuz", "boot/vmlinuz"),
        ("./", ""),
        ("./library", "library"),
    ],
)
def test_paths_are_in_merged_form(path: str, expected: str) -> None:
    assert merged_path(path) == expected


def test_relation_syntax() -> None:
    field = "a (= 1:2-3), b:any (>= 4) | c [amd64], d <!nocheck>, "
    assert list(dependencies(field)) == [("a",), ("b", "c"), ("d",)]
