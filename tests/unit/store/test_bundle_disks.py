"""The three ways in which a bundle gets its disks: a reflink, a hard link, a copy."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.errors import SaltflatError
from converter.store.bundle import read_bundle, write_bundle
from converter.store.layout import Store
from converter.store.links import disk_path
from tests.images.cache import ROOT, cache_folder
from tests.unit.store.small_store import PARAMETERS, image_of, make_link

_LAYER = "base"
_BTRFS_BYTES = 128 << 20  # a little over the least that mkfs takes
_FS_IOC_FIEMAP = 0xC020660B  # linux/fs.h
_FIEMAP_FLAG_SYNC = 1


def _make_bundle(store: Store, folder: Path, *, copy: bool = False) -> tuple[Path, Path]:
    """Make a bundle of one link; return the link's disk in the store and in the bundle."""
    link = make_link(store, "", _LAYER, size_bytes=70_000)
    disk = disk_path(store, link.link_id)
    write_bundle(folder, image_of([_LAYER]), PARAMETERS, (link,), (disk,), copy=copy)
    (shared,) = read_bundle(folder).disks
    assert shared.read_bytes() == disk.read_bytes()
    assert shared.stat().st_mode & 0o777 == 0o444
    return disk, shared


def _can_reflink(folder: Path) -> bool:
    done = subprocess.run(
        ["cp", "--reflink=always", ROOT / "setup.cfg", folder / "clone"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    (folder / "clone").unlink(missing_ok=True)
    return done.returncode == 0


def test_copies_are_files_of_their_own(tmp_path: Path) -> None:
    disk, shared = _make_bundle(Store(tmp_path / "store"), tmp_path / "bundle", copy=True)
    assert shared.stat().st_ino != disk.stat().st_ino
    assert disk.stat().st_nlink == shared.stat().st_nlink == 1
    # Not a reflink either: nothing that happens to one file's blocks can touch the other.
    assert shared.stat().st_blocks * 512 >= shared.stat().st_size


def test_a_copy_that_finds_no_room_names_the_bundle_and_leaves_nothing(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "bundles" / "one"
    link = make_link(store, "", _LAYER, size_bytes=70_000)
    disk = disk_path(store, link.link_id)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk.stat().st_size - 1, hard))
    try:
        with pytest.raises(SaltflatError, match=f"no room for the bundle {folder}:"):
            write_bundle(folder, image_of([_LAYER]), PARAMETERS, (link,), (disk,), copy=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.parent.iterdir())


def test_one_file_system_without_reflinks_gives_hard_links(tmp_path: Path) -> None:
    if _can_reflink(tmp_path):
        pytest.skip("this file system makes reflinks instead")
    disk, shared = _make_bundle(Store(tmp_path / "store"), tmp_path / "bundle")
    assert shared.stat().st_ino == disk.stat().st_ino
    assert disk.stat().st_nlink == 2


def test_another_file_system_gets_copies(tmp_path: Path, lacking: Callable[[str], None]) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        lacking("no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        disk, shared = _make_bundle(Store(tmp_path / "store"), Path(folder) / "bundle")
        assert shared.stat().st_dev != disk.stat().st_dev


def test_file_systems_with_reflinks_give_reflinks(reflinking: Path) -> None:
    disk, shared = _make_bundle(Store(reflinking / "store"), reflinking / "bundle")
    assert shared.stat().st_ino != disk.stat().st_ino
    assert disk.stat().st_nlink == 1
    assert _first_extent(shared) == _first_extent(disk)
    copied, copy = _make_bundle(Store(reflinking / "store"), reflinking / "copy", copy=True)
    assert copied == disk
    assert _first_extent(copy) != _first_extent(disk)


@pytest.fixture
def reflinking(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder whose file system makes reflinks: a mounted one, or btrfs in a file."""
    for folder in (tmp_path, cache_folder(), Path.home()):
        if folder.is_dir() and _can_reflink(folder):
            with tempfile.TemporaryDirectory(dir=folder) as found:
                yield Path(found)
            return
    mkfs = shutil.which("mkfs.btrfs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mkfs is None or os.geteuid() != 0:
        pytest.skip("no file system here makes reflinks, and only root could mount one")
    image, folder = tmp_path / "btrfs", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(_BTRFS_BYTES)
    folder.mkdir()
    subprocess.run([mkfs, "-q", image], check=True, capture_output=True, timeout=60)
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, timeout=60, check=False
    )
    if mounted.returncode:
        pytest.skip("btrfs cannot be mounted here (no loop devices, or a kernel without it)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


def _first_extent(path: Path) -> int:
    """Return where the file begins on its device (ioctl FIEMAP, linux/fiemap.h)."""
    head = struct.pack("=QQLLLL", 0, 2**64 - 1, _FIEMAP_FLAG_SYNC, 0, 1, 0)
    with path.open("rb") as file:
        answer = fcntl.ioctl(file.fileno(), _FS_IOC_FIEMAP, head + bytes(56))
    assert struct.unpack_from("=L", answer, 20)[0] == 1
    _logical, physical = struct.unpack_from("=QQ", answer, 32)
    assert isinstance(physical, int)
    return physical
