"""Formats of layers: whole, cut, damaged, followed by other things, and cut into any pieces."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import IntegrityError
from converter.layer.compression import MAX_CHUNK_BYTES, decompress
from converter.layer.gzip_members import (
    HAVE_ISAL,
    Inflater,
    gunzip,
    isal_inflater,
    zlib_inflater,
)
from converter.layer.zstd_frames import FrameWatch

# Content as (word, how often): long enough for several blocks, short enough to be shown.
PARTS = st.lists(
    st.tuples(st.binary(min_size=1, max_size=300), st.integers(0, 100)), min_size=1, max_size=4
)
NewInflater = Callable[[], Inflater]
INFLATERS = [zlib_inflater, *([isal_inflater] if HAVE_ISAL else [])]
SKIPPABLE = struct.pack("<II", 0x184D2A5F, 5) + b"extra"


def tar_of(size_bytes: int, form: int = tarfile.PAX_FORMAT) -> bytes:
    content = random.Random(size_bytes).randbytes(size_bytes // 2) + bytes(size_bytes // 2)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        member = tarfile.TarInfo("file")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


TAR = tar_of(300_000)
COMPRESSED = {
    "tar": TAR,
    "gzip": gzip.compress(TAR, mtime=0),
    "gzip members": gzip.compress(TAR[:7]) + gzip.compress(b"") + gzip.compress(TAR[7:]),
    "gzip padded": gzip.compress(TAR) + bytes(700),
    "zstd": zstandard.compress(TAR),
    "zstd with checksum": zstandard.ZstdCompressor(write_checksum=True).compress(TAR),
    "zstd without size": zstandard.ZstdCompressor(write_content_size=False).compress(TAR),
    "zstd frames": zstandard.compress(TAR[:9]) + SKIPPABLE + zstandard.compress(TAR[9:]),
    "zstd begins skippable": SKIPPABLE + zstandard.compress(TAR),
}
TRUNCATABLE = ["gzip", "zstd", "zstd with checksum", "zstd without size", "zstd frames"]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("form", COMPRESSED)
@pytest.mark.parametrize("size", [1 << 20, 4096, 1])
def test_content_comes_back(form: str, size: int) -> None:
    if size == 1 and form == "tar":
        size = 3
    chunks = list(decompress(pieces(COMPRESSED[form], size), "It"))
    assert b"".join(chunks) == TAR
    assert 0 < max(map(len, chunks)) <= MAX_CHUNK_BYTES


@pytest.mark.parametrize("new_inflater", INFLATERS)
@given(
    parts=PARTS,
    level=st.sampled_from([0, 1, 6, 9]),
    padding=st.integers(0, 1100),
    size=st.integers(1, 5000),
    chunk_bytes=st.sampled_from([1, 10, 1000, 100_000]),
)
def test_any_members_in_any_pieces(
    new_inflater: NewInflater,
    parts: list[tuple[bytes, int]],
    level: int,
    padding: int,
    size: int,
    chunk_bytes: int,
) -> None:
    plain = [word * times for word, times in parts]
    data = b"".join(gzip.compress(part, level) for part in plain) + bytes(padding)
    got = gunzip(pieces(data, size), "It", chunk_bytes=chunk_bytes, new_inflater=new_inflater)
    assert b"".join(got) == b"".join(plain)


@pytest.mark.parametrize("new_inflater", INFLATERS)
def test_members_that_end_beyond_the_last_piece(new_inflater: NewInflater) -> None:
    # Stored blocks and little room for output: isal then gives back more than it was last given.
    stored = random.Random(2).randbytes(200_000)
    data = gzip.compress(stored, 0) + gzip.compress(b"next")
    got = gunzip(pieces(data, 15), "It", chunk_bytes=1000, new_inflater=new_inflater)
    assert b"".join(got) == stored + b"next"


@pytest.mark.parametrize("new_inflater", INFLATERS)
def test_headers_of_all_kinds(new_inflater: NewInflater) -> None:
    body = gzip.compress(b"content", mtime=0)[10:]
    extra = struct.pack("<H", 4) + b"ABCD"
    # RFC 1952 section 2.3.1: FEXTRA 4, FNAME 8, FCOMMENT 16, FHCRC 2
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + extra + b"name\0" + b"comment\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    for size in (1, 5, 1000):
        assert (
            b"".join(
                gunzip(pieces(head + body, size), "It", chunk_bytes=1000, new_inflater=new_inflater)
            )
            == b"content"
        )


@given(plain=st.binary(min_size=1, max_size=500), data=st.data())
def test_a_flipped_bit_is_found_or_means_nothing(plain: bytes, data: st.DataObject) -> None:
    bad = bytearray(gzip.compress(plain, mtime=0))
    position = data.draw(st.integers(10, len(bad) - 1))  # the header has free fields
    bad[position] ^= 1 << data.draw(st.integers(0, 7))
    outcomes = set()
    for new_inflater in INFLATERS:
        try:
            got = gunzip([bytes(bad)], "It", chunk_bytes=1000, new_inflater=new_inflater)
            outcomes.add(b"".join(got))
        except IntegrityError:
            outcomes.add(None)
    # Deflate ends within a byte whose other bits are free.
    assert outcomes in ({plain}, {None})


@pytest.mark.parametrize("form", TRUNCATABLE)
def test_truncation_at_any_byte(form: str) -> None:
    small = tar_of(1000)
    data = {
        "gzip": gzip.compress(small),
        "zstd": zstandard.compress(small),
        "zstd with checksum": zstandard.ZstdCompressor(write_checksum=True).compress(small),
        "zstd without size": zstandard.ZstdCompressor(write_content_size=False).compress(small),
        "zstd frames": SKIPPABLE + zstandard.compress(small),
    }[form]
    begin = len(SKIPPABLE) + 1 if form == "zstd frames" else 8
    for end in range(begin, len(data)):
        with pytest.raises(IntegrityError, match="It is truncated"):
            list(decompress([data[:end]], "It"))


@pytest.mark.parametrize("new_inflater", INFLATERS)
@pytest.mark.parametrize(
    "garbage", [b"\0\0x", b"x", gzip.compress(b"y", mtime=0)[:7], b"\x1f\x8bgarbage..."]
)
def test_garbage_after_gzip(new_inflater: NewInflater, garbage: bytes) -> None:
    for size in (1, 1000):
        with pytest.raises(IntegrityError, match=r"^It (has garbage|is damaged, after 1|is trunc)"):
            list(
                gunzip(
                    pieces(gzip.compress(TAR) + garbage, size),
                    "It",
                    chunk_bytes=1000,
                    new_inflater=new_inflater,
                )
            )


@pytest.mark.parametrize("garbage", [b"x", b"garbage...", bytes(8), zstandard.compress(b"y")[:-1]])
def test_garbage_after_zstd(garbage: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^It is (damaged|truncated)"):
        list(decompress([zstandard.compress(TAR) + garbage], "It"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bz2.compress(TAR), "compressed by bzip2"),
        (lzma.compress(TAR), "compressed by xz"),
        (b"<html>" + b" " * 600, "begins with 3c 68 74 6d 6c 3e 20 20"),
        (b"short", "begins with 73 68 6f 72 74"),
        (b"\x1f", "begins with 1f"),
    ],
)
def test_other_formats_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        list(decompress([data], "It"))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_dialects(form: int) -> None:
    archive = tar_of(2000, form)
    assert b"".join(decompress([archive], "It")) == archive


def test_tar_from_before_posix() -> None:
    header = bytearray(tar_of(0)[:512])
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert b"".join(decompress([bytes(header)], "It")) == header
    header[0] ^= 1
    with pytest.raises(IntegrityError, match="unknown format"):
        list(decompress([bytes(header)], "It"))


@pytest.mark.parametrize(
    "empty", [b"", bytes(1024), gzip.compress(b"", mtime=0), zstandard.compress(b"")]
)
def test_an_empty_layer(empty: bytes) -> None:
    assert b"".join(decompress([empty] if empty else [], "It")).strip(b"\0") == b""


@pytest.mark.parametrize("size", [512, 513, 1024])
def test_what_a_layer_is_does_not_depend_on_how_it_arrives(size: int) -> None:
    data = bytes(512) + b"what stands behind an empty archive is not an archive's matter" * 10
    assert b"".join(decompress([data[:size], data[size:]], "It")) == data
    assert b"".join(decompress([data], "It")) == data


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_comes_in_small_pieces(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(50 << 20))
    assert len(bomb) < 60_000
    total = 0
    for chunk in decompress([bomb], "It"):
        assert len(chunk) <= MAX_CHUNK_BYTES
        total += len(chunk)
    assert total == 50 << 20


def test_a_window_too_large_is_refused() -> None:
    # RFC 8878 section 3.1.1.1.2: exponent 18 is a window of 2^28 bytes; then an empty last block.
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 18 << 3) + b"\x01\0\0"
    with pytest.raises(IntegrityError, match="It is damaged") as caught:
        list(decompress([frame], "It"))
    assert "134217728" in str(caught.value.expected)
    largest = struct.pack("<IBB", 0xFD2FB528, 0, 17 << 3) + b"\x01\0\0"
    assert list(decompress([largest], "It")) == []


@given(
    PARTS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([-5, 1, 3, 19]),
    st.integers(1, 3000),
)
def test_frames_end_where_the_library_ends_them(
    parts: list[tuple[bytes, int]], checksum: bool, content_size: bool, level: int, size: int
) -> None:
    compressor = zstandard.ZstdCompressor(
        level=level, write_checksum=checksum, write_content_size=content_size
    )
    watch = FrameWatch()
    for word, times in parts:
        frame = compressor.compress(word * times)
        for piece in pieces(frame[:-1], size):
            watch.feed(piece)
            assert not watch.at_frame_end
        watch.feed(frame[-1:])
        assert watch.at_frame_end
