"""The initramfs archive: read back by cpio(1)'s rules, ordered, and the same on every run."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from converter.errors import IntegrityError
from tinykernel import c_newc
from tinykernel.cpio import ArchiveEntry, directory, read_newc_at, regular, symlink, write_newc

ENTRIES = [
    regular("usr/bin/tool", b"\x7fELF" + b"x" * 1001, 0o755),
    directory("dev"),
    symlink("bin", "usr/bin"),
    regular("usr/bin-extra", b""),
    regular("usr/lib/a", b"abc"),
]


def parse(archive: bytes) -> list[tuple[dict[str, int], str, bytes]]:
    """Read a newc archive by the specification alone."""
    members = []
    at = 0
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        header = dict(zip(c_newc.FIELDS, numbers, strict=True))
        name_end = at + c_newc.HEADER_SIZE + header["namesize"]
        name = archive[at + c_newc.HEADER_SIZE : name_end - 1].decode()
        assert archive[name_end - 1] == 0
        data_at = name_end + -name_end % 4
        data_end = data_at + header["filesize"]
        if name == "TRAILER!!!":
            assert archive[data_end:] == b""
            return members
        members.append((header, name, archive[data_at:data_end]))
        at = data_end + -data_end % 4


def test_members_come_back_with_parents_before_children() -> None:
    members = parse(b"".join(write_newc(ENTRIES)))

    assert [name for _, name, _ in members] == [
        "bin",
        "dev",
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "usr/bin-extra",
        "usr/lib",
        "usr/lib/a",
    ]
    content = {name: data for _, name, data in members}
    assert content["usr/bin/tool"] == ENTRIES[0].data
    assert content["bin"] == b"usr/bin"
    modes = {name: header["mode"] for header, name, _ in members}
    assert modes["usr/bin/tool"] == 0o100755
    assert modes["bin"] == 0o120777
    assert modes["usr"] == 0o040755


def test_nothing_of_the_host_or_the_clock_is_in_the_headers() -> None:
    for header, _, _ in parse(b"".join(write_newc(ENTRIES))):
        assert header["mtime"] == header["uid"] == header["gid"] == 0
        assert header["devmajor"] == header["devminor"] == 0


def test_inode_numbers_are_distinct() -> None:
    # The kernel takes equal inode numbers with nlink > 1 for hard links.
    numbers = [header["ino"] for header, _, _ in parse(b"".join(write_newc(ENTRIES)))]
    assert len(set(numbers)) == len(numbers)


def test_order_of_entries_does_not_matter() -> None:
    shuffled = list(ENTRIES)
    random.Random(4).shuffle(shuffled)
    assert b"".join(write_newc(shuffled)) == b"".join(write_newc(ENTRIES))


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../b", "a//b", "./a", "a/", ""])
def test_paths_that_are_not_plain_and_relative_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        list(write_newc([ArchiveEntry(path, 0o100644)]))


def test_two_entries_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="claim 'a'"):
        list(write_newc([regular("a", b"1"), regular("a", b"2")]))


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_busybox_lists_the_archive() -> None:
    archive = b"".join(write_newc(ENTRIES))
    result = subprocess.run(
        ["busybox", "cpio", "-t"], input=archive, capture_output=True, check=True, timeout=10
    )
    assert result.stdout.decode().split("\n") == [
        *(name for _, name, _ in parse(archive)),
        "",
    ]


def test_what_was_written_is_read_back() -> None:
    archive = b"".join(write_newc(ENTRIES))
    members, end = read_newc_at(archive, 0)
    assert end == len(archive)
    read = {entry.path: entry for entry in members}
    assert {entry.path: read[entry.path] for entry in ENTRIES} == {e.path: e for e in ENTRIES}


def test_a_damaged_archive_is_refused_wherever_it_is_cut() -> None:
    archive = b"".join(write_newc(ENTRIES))
    for end in range(len(archive)):
        with pytest.raises(IntegrityError):
            read_newc_at(archive[:end], 0)
