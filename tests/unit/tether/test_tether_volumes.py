"""What can be told of volumes without a guest: serial numbers, and the copy of a tree as root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.tether import copy_up, volumes
from agent.tether.config import Volume
from agent.tether.errors import StartError
from tests.images.trees import differences, read_tree


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"device/vpd_pg80": b"\0\x80\0\x08 AB-12  "}, "ab-12"),
        ({"device/vpd_pg80": b"\0\x80\0\x04ab\0\0", "serial": b"other"}, "ab"),
        ({"serial": b"CD34\n"}, "cd34"),
        ({"device/serial": b"EF56   \n"}, "ef56"),
        ({"device/vpd_pg80": b""}, ""),
        ({"size": b"8"}, None),
    ],
)
def test_serial_numbers(tmp_path, files, expected):
    (tmp_path / "sdb/device").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "sdb" / name).write_bytes(content)
    assert volumes.read_serial("sdb", str(tmp_path)) == expected


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/sys", "/proc/../proc/self", "/x/.."])
def test_places_that_no_volume_may_have(path):
    with pytest.raises(StartError, match=path) as caught:
        volumes._resolve(Volume("ab", path))
    assert caught.value.kind == "volume"


@pytest.fixture
def place(tmp_path):
    """Return a folder where the kernel keeps trusted attributes, with an image and a volume."""
    (tmp_path / "volume").mkdir()
    image = tmp_path / "image"
    image.mkdir(0o750)
    try:
        os.setxattr(image, "trusted.probe", b"")
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            pytest.skip("no trusted attributes here")
        raise
    (image / "folder").mkdir()
    (image / "folder/file").write_bytes(b"content")
    (image / "folder/file").chmod(0o4755)
    os.link(image / "folder/file", image / "again")
    (image / "link").symlink_to("nowhere")
    os.mkfifo(image / "fifo")
    with (image / "holes").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    return tmp_path


def fill(place):
    descriptor = os.open(place / "volume", os.O_PATH | os.O_DIRECTORY)
    try:
        copy_up.fill(str(place / "image"), descriptor)
    finally:
        os.close(descriptor)
        os.chdir(Path(__file__).parent)


@pytest.mark.root
def test_an_empty_volume_becomes_the_image_s_folder(place):
    (place / "volume" / copy_up.LOST_AND_FOUND).mkdir()
    fill(place)
    (place / "volume" / copy_up.LOST_AND_FOUND).rmdir()
    image, copied = read_tree(place / "image"), read_tree(place / "volume")
    found = differences(image, copied, unpacked_ns=2**80)
    assert [line for line in found if "b'': mtime_ns" not in line] == []
    assert (place / "volume/holes").stat().st_blocks * 512 < 1 << 20


@pytest.mark.root
def test_one_that_is_used_is_left_alone(place):
    (place / "volume/mine").write_bytes(b"")
    fill(place)
    assert [path.name for path in (place / "volume").iterdir()] == ["mine"]


CHANGES = ("mkdir", "link", "symlink", "mknod", "sendfile", "fchmod", "sync", "utime")


@pytest.mark.root
@pytest.mark.parametrize("writes", range(1, 12))
def test_a_copy_that_was_cut_short_is_made_again(place, writes):
    calls = iter(range(writes))

    def until_the_cut(function):
        def call(*args, **kwargs):
            if next(calls, None) is None:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    pid = os.fork()
    if not pid:
        for name in CHANGES:
            setattr(os, name, until_the_cut(getattr(os, name)))
        fill(place)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    fill(place)
    image, copied = read_tree(place / "image"), read_tree(place / "volume")
    assert differences(image, copied, unpacked_ns=2**80) == []


@pytest.mark.root
def test_without_a_folder_in_the_image_nothing_happens(place):
    descriptor = os.open(place / "volume", os.O_PATH | os.O_DIRECTORY)
    copy_up.fill(str(place / "nowhere"), descriptor)
    with pytest.raises(NotADirectoryError):
        copy_up.fill(str(place / "image/again"), descriptor)
    os.close(descriptor)
    assert list((place / "volume").iterdir()) == []
