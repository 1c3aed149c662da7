"""Faults that e2fsck -fn passes over in silence: dumpe2fs, debugfs and the kernel look for each.

Free counts of the superblock, the journal's backup there, the state, features and flags of groups,
and the file types in directories. Every prefix of the rules image is looked at.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import rules
from tests.images.disks import checked_mount, convert, convert_links, debugfs
from tests.images.raw_layout import RawLayer, write_layout
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

Tool = Callable[[str], str]
LAYERS = rules.layers()
BLOCK = 4096
FEATURES = (
    "has_journal ext_attr dir_index filetype extent flex_bg sparse_super large_file huge_file "
    "uninit_bg dir_nlink extra_isize"
)
# Offsets in the superblock: Documentation/filesystems/ext4, super.rst.
SUPERBLOCK = 1024
S_JNL_BACKUP_TYPE = 0xFD
S_JNL_BLOCKS = 0x10C
# debugfs prints octal addresses and sixteen bytes in hexadecimal digits.
_DUMP_LINE = re.compile(rb"^[0-7]{4}  ((?:[0-9a-f]{4} ){8})", re.MULTILINE)
_GROUP_COUNTS = re.compile(r"(\d+) free blocks, (\d+) free inodes, \d+ directories")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file system: mounted, raw, and as dumpe2fs tells it."""

    mount: Path
    raw: Path
    header: dict[str, str]
    groups: list[str]


@pytest.fixture(scope="module", params=[1, len(LAYERS), "--no-journal"])
def seen(
    request: pytest.FixtureRequest,
    saltflat: Saltflat,
    tool: Tool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Seen]:
    work = tmp_path_factory.mktemp("seen")
    options = [request.param] if isinstance(request.param, str) else []
    count = len(LAYERS) if options else request.param
    source = write_layout(work / "image", [RawLayer(layer) for layer in LAYERS[:count]])
    # Two megabytes beyond a whole group: the last one is cut.
    options += ["--capacity", "1026m"]
    disk = convert(saltflat.good, work / "store", source, *options)
    with checked_mount(tool, disk, work) as mount:
        raw = work / "flat.raw"
        dump = [tool("dumpe2fs"), f"{raw}"]
        done = subprocess.run(dump, capture_output=True, text=True, timeout=60, check=True)
        head, *groups = re.split(r"^Group \d+: ", done.stdout, flags=re.MULTILINE)
        lines = (line.partition(":") for line in head.splitlines())
        yield Seen(mount, raw, {key: value.strip() for key, _, value in lines}, groups)


def _counted(group: str, what: str) -> int:
    """Count what dumpe2fs lists from the bitmap: "Free blocks: 7, 10-12"."""
    listed = re.search(rf"^  Free {what}: (.*)$", group, re.MULTILINE)
    assert listed is not None
    total = 0
    for part in filter(None, listed[1].split(", ")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def test_free_counts_of_superblock_groups_and_bitmaps_agree(seen: Seen) -> None:
    assert len(seen.groups) == 9
    totals = [0, 0]
    for group in seen.groups:
        counts = _GROUP_COUNTS.search(group)
        assert counts is not None
        for index, what in enumerate(("blocks", "inodes")):
            assert _counted(group, what) == int(counts[1 + index])
            totals[index] += int(counts[1 + index])
    assert totals == [int(seen.header["Free blocks"]), int(seen.header["Free inodes"])]


def test_state_features_and_flags(seen: Seen) -> None:
    journal = "Journal inode" in seen.header
    assert seen.header["Filesystem state"] == "clean"
    assert seen.header["Filesystem features"] == FEATURES.removeprefix(
        "" if journal else "has_journal "
    )
    assert seen.header["Default mount options"] == "user_xattr acl"
    assert seen.header["Filesystem flags"] == "signed_directory_hash"
    # Without the flag the kernel clears inode tables in the background, for nothing.
    assert all("ITABLE_ZEROED]" in group.partition("\n")[0] for group in seen.groups)
    assert "BLOCK_UNINIT" not in seen.groups[-1]


def test_the_superblock_has_a_copy_of_the_journals_inode(seen: Seen, tool: Tool) -> None:
    if "Journal inode" not in seen.header:
        assert b"Type: bad type" in debugfs(tool, seen.raw, "stat <8>")
        return
    assert seen.header["Journal backup"] == "inode blocks"
    lines = _DUMP_LINE.findall(debugfs(tool, seen.raw, "inode_dump -b <8>"))
    i_block = bytes.fromhex(b"".join(lines).replace(b" ", b"").decode())
    size = re.search(rb"Size: (\d+)", debugfs(tool, seen.raw, "stat <8>"))
    assert size is not None
    with seen.raw.open("rb") as file:
        superblock = os.pread(file.fileno(), 1024, SUPERBLOCK)
    copy = superblock[S_JNL_BLOCKS : S_JNL_BLOCKS + 68]
    assert superblock[S_JNL_BACKUP_TYPE] == 1
    # A dump leaves out lines that are as the one before, all zeros here.
    assert copy[:60] == i_block.ljust(60, b"\0")[:60]
    high, low = (int.from_bytes(copy[at : at + 4], "little") for at in (60, 64))
    assert (high, low) == (0, int(size[1]))


def test_the_identity_never_changes_up_the_chain(
    saltflat: Saltflat, tool: Tool, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "image", [RawLayer(layer) for layer in LAYERS])
    told = []
    for disk in convert_links(saltflat.good, tmp_path / "store", source, "--capacity", "64m"):
        raw = tmp_path / "raw"
        flatten = [tool("qemu-img"), "convert", "-f", "vmdk", "-O", "raw", f"{disk}", f"{raw}"]
        subprocess.run(flatten, check=True, timeout=60)
        dump = [tool("dumpe2fs"), "-h", f"{raw}"]
        done = subprocess.run(dump, capture_output=True, text=True, timeout=60, check=True)
        lines = (line.partition(":") for line in done.stdout.splitlines())
        header = {key: value.strip() for key, _, value in lines}
        keys = ("Filesystem UUID", "Directory Hash Seed", "Filesystem volume name")
        told.append([header[key] for key in keys])
    assert len(told) == len(LAYERS)
    assert told == told[:1] * len(LAYERS)
    assert "<none>" not in told[0]


class _Dirent(ctypes.Structure):
    """struct dirent64 of glibc."""

    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


def _types(folder: Path) -> dict[bytes, int]:
    """Return what the kernel's listing itself says that each name is: DT_REG and so on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir64.restype = ctypes.POINTER(_Dirent)
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))
    found = {}
    try:
        while entry := libc.readdir64(stream):
            found[entry.contents.d_name] = entry.contents.d_type
    finally:
        libc.closedir(stream)
    return found


def test_directories_tell_the_type_of_every_name(seen: Seen) -> None:
    kinds = set()
    for folder, _, _ in os.walk(seen.mount):
        types = _types(Path(folder))
        assert types.keys() >= {b".", b".."}
        for name, kind in types.items():
            status = os.lstat(Path(folder, os.fsdecode(name)))
            assert kind == stat.S_IFMT(status.st_mode) >> 12, name  # DT_* are S_IF* without zeros
            kinds.add(kind)
    assert len(kinds) == 6
