"""The output rule: what appears is whole, what was there stays, and no temporary folder is left."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.errors import SaltflatError, UsageError
from converter.export.target import check_target, fill_target

BIG = 1 << 20


def write(names: dict[str, bytes]) -> Callable[[Path], None]:
    """Return what fills a folder with these files."""

    def fill(folder: Path) -> None:
        assert not list(folder.iterdir())
        for name, data in names.items():
            (folder / name).write_bytes(data)

    return fill


def disk(out: Path, *, force: bool = False, data: bytes = b"new") -> tuple[Path, ...]:
    fill = write({out.name: data, "a-flat.vmdk": b"extent"})
    return fill_target(out, fill, suffix=".vmdk", is_folder=False, force=force)


def machine(out: Path, *, force: bool = False) -> tuple[Path, ...]:
    fill = write({"disk.vmdk": b"disk", f"{out.name}.vmx": b"new"})
    return fill_target(out, fill, suffix=".vmx", is_folder=True, force=force)


def everything(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_files_come_to_lie_beside_the_main_one(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.vmdk"
    assert disk(out) == (out, out.with_name("a-flat.vmdk"))
    assert everything(tmp_path) == {"deep/a.vmdk": b"new", "deep/a-flat.vmdk": b"extent"}


def test_a_folder_is_the_export(tmp_path: Path) -> None:
    out = tmp_path / "web"
    assert machine(out) == (out / "web.vmx", out / "disk.vmdk")
    assert list(tmp_path.iterdir()) == [out]


def test_nothing_is_replaced_without_being_asked_for(tmp_path: Path) -> None:
    for name in ("a.vmdk", "a-flat.vmdk", "web"):
        (tmp_path / name).write_bytes(b"old")
    before = everything(tmp_path)
    for attempt in (lambda: disk(tmp_path / "a.vmdk"), lambda: machine(tmp_path / "web")):
        with pytest.raises(UsageError, match="exists"):
            attempt()
    (tmp_path / "a.vmdk").unlink()
    with pytest.raises(UsageError, match=r"a-flat\.vmdk exists"):
        check_target(
            tmp_path / "a.vmdk",
            suffix=".vmdk",
            is_folder=False,
            force=False,
            beside=["a-flat.vmdk"],
        )
    with pytest.raises(UsageError, match=r"a-flat\.vmdk exists"):
        disk(tmp_path / "a.vmdk")
    assert everything(tmp_path) == {name: before[name] for name in ("a-flat.vmdk", "web")}


def test_force_replaces_what_an_export_made(tmp_path: Path) -> None:
    disk(tmp_path / "a.vmdk")
    disk(tmp_path / "a.vmdk", force=True, data=b"newer")
    machine(tmp_path / "web")
    (tmp_path / "web" / "vmware.log").write_bytes(b"")
    machine(tmp_path / "web", force=True)
    assert everything(tmp_path) == {
        "a.vmdk": b"newer",
        "a-flat.vmdk": b"extent",
        "web/web.vmx": b"new",
        "web/disk.vmdk": b"disk",
    }


def test_force_replaces_nothing_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_bytes(b"2019")
    (tmp_path / "link.vmdk").symlink_to(precious / "thesis")
    for attempt in (
        lambda: machine(precious, force=True),
        lambda: disk(precious, force=True),
        lambda: disk(tmp_path / "link.vmdk", force=True),
        lambda: machine(tmp_path / "link.vmdk", force=True),
    ):
        with pytest.raises(UsageError):
            attempt()
    assert everything(precious) == {"thesis": b"2019"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.vmdk", "precious"]


@pytest.mark.parametrize("kind", [disk, machine])
def test_a_failure_leaves_what_was_there(
    kind: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late: here the last renaming fails."""
    out = tmp_path / ("a.vmdk" if kind is disk else "web")
    kind(out)
    before = everything(tmp_path)
    rename = Path.rename
    refused: list[Path] = []

    def refuse(self: Path, target: Path) -> Path:
        if target == out and not refused:
            refused.append(self)
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(KeyboardInterrupt):
        kind(out, force=True)
    assert refused
    assert everything(tmp_path) == before


def test_no_room_is_said(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BIG // 2, hard))
    try:
        with pytest.raises(SaltflatError, match="There is no room for") as caught:
            disk(tmp_path / "a.vmdk", data=bytes(BIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    places = [tmp_path / "file" / "a.vmdk", Path("/sys/a.vmdk")]
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(0o500)
        places.append(tmp_path / "locked" / "a.vmdk")
    for place in places:
        with pytest.raises(SaltflatError, match=r"a\.vmdk cannot be written"):
            disk(place)


def test_an_error_of_the_source_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    def fill(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/elsewhere/link.vmdk")

    with pytest.raises(PermissionError, match="/elsewhere"):
        fill_target(tmp_path / "a", fill, suffix=".vmdk", is_folder=False, force=False)


@pytest.mark.parametrize("name", [".", "..", ".tmp-1-1-a", "x" * 250])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        disk(tmp_path / name if name != "." else Path())
    assert not list(tmp_path.iterdir())
