"""An initramfs is read as the kernel reads it; busybox's cpio and zstd(1) make it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from converter.errors import IntegrityError
from tinykernel import archives, packing
from tinykernel.archives import read_initramfs
from tinykernel.cpio import ArchiveEntry, directory, regular, symlink, write_newc

FIRST = b"".join(write_newc([regular("a/one", b"1" * 1000), symlink("link", "a/one")]))
SECOND = b"".join(write_newc([regular("a/one", b"changed"), regular("two", b"2")]))


def lz4_legacy(data: bytes) -> bytes:
    program = ["lz4", "-l", "-c", "-q"]
    return subprocess.run(program, input=data, capture_output=True, check=True).stdout


def content(image: bytes) -> dict[str, bytes]:
    return {entry.path: entry.data for entry in read_initramfs(image)}


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstandard.ZstdCompressor().compress,
        zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress,
        lz4_legacy,
    ],
    ids=["plain", "gzip", "bzip2", "xz", "zstd", "zstd without size", "lz4"],
)
def test_archives_in_a_row_are_one_tree(
    compress: Callable[[bytes], bytes], tool: Callable[[str], str]
) -> None:
    tool("lz4")
    assert content(compress(FIRST)) == {"a": b"", "a/one": b"1" * 1000, "link": b"a/one"}
    wanted = {"a": b"", "a/one": b"changed", "link": b"a/one", "two": b"2"}
    for image in (
        FIRST + bytes(512) + compress(SECOND),
        compress(FIRST) + bytes(4) + SECOND,  # by lz4 alone only zeros say where it ends
        compress(FIRST) + compress(SECOND) + bytes(4),
        compress(FIRST + SECOND),
    ):
        assert content(image) == wanted


def test_what_cpio_makes(tool: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(b"x" * 12345)
    (tmp_path / "tree/link").symlink_to("sub/file")
    archive = subprocess.run(
        [tool("busybox"), "cpio", "-o", "-H", "newc"],
        input=b"sub\nsub/file\nlink\n",
        cwd=tmp_path / "tree",
        capture_output=True,
        check=True,
    ).stdout
    packed = subprocess.run(
        [tool("zstd"), "-19", "--stdout"], input=archive, capture_output=True, check=True
    ).stdout
    entries = {entry.path: entry for entry in read_initramfs(packed)}
    assert entries["sub/file"].data == b"x" * 12345
    assert entries["link"].data == b"sub/file"
    assert entries["sub"].mode & 0o170000 == 0o040000


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"hello", "neither an archive nor known compression"),
        (FIRST + b"\x02\x21\x4c\x18more", "damaged"),
        (b"\x02\x21\x4c\x18\x09\0\0\0more", "cut short"),
        (b"\x02\x21\x4c\x18\x04\0\0\0more", "damaged"),
        (gzip.compress(b"hello", mtime=0), "no member begins there"),
        (gzip.compress(FIRST, mtime=0)[:-9], "cut short"),
        (lzma.compress(FIRST)[:-9], "cut short"),
        (zstandard.compress(FIRST)[:-1], "cut short"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "damaged"),
        (FIRST[:200], "cut short|damaged"),
        (FIRST.replace(b"00000000", b"-0000100", 1), "no member begins there"),
    ],
)
def test_what_is_none_is_one_error(image: bytes, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        read_initramfs(image)


@pytest.mark.parametrize(
    "compress", [gzip.compress, lzma.compress, zstandard.ZstdCompressor(level=19).compress]
)
def test_what_unpacks_to_too_much_is_refused(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_BYTES", 1 << 20)
    packed = compress(b"".join(write_newc([ArchiveEntry("big", 0o100644, bytes(16 << 20))])))
    with pytest.raises(IntegrityError, match="unpacks to more than 1048576 bytes"):
        read_initramfs(packed)


def test_folders_are_kept() -> None:
    (entry,) = read_initramfs(b"".join(write_newc([directory("dev", 0o700)])))
    assert entry == directory("dev", 0o700)


@pytest.mark.parametrize("small", [True, False])
def test_what_is_packed_is_read(small: bool, tool: Callable[[str], str]) -> None:
    large = bytes(range(256)) * 40_000  # more than one block of lz4
    entries = [
        directory("usr"),
        regular("usr/large", large, 0o755),
        symlink("usr/link", "large"),
        regular("usr/other", b"2" * 3000),
    ]
    image = packing.pack(entries, small=small)
    assert image == packing.pack(entries, small=small)
    assert read_initramfs(image) == entries
    if small:  # the first archive, by the program that the format is of
        end = image.index(b"\0\0\0\0\x28\xb5\x2f\xfd")
        unpack = [tool("lz4"), "-d", "-c", "-q"]
        found = subprocess.run(unpack, input=image[:end], capture_output=True, check=True).stdout
        assert found == b"".join(write_newc(entries[:3]))
