"""Transport forms: whatever goes in comes out, and nothing else ever does."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from converter.artifact.codec import Codec, decode, encode
from converter.errors import IntegrityError, SaltflatError

CODECS = list(Codec)
# Links are data and runs of zeros.
CONTENT = st.lists(
    st.one_of(st.binary(max_size=500), st.integers(1, 5000).map(bytes)), max_size=20
).map(b"".join)


def unfold(chunks: Iterable[bytes], codec: Codec, content: bytes) -> bytes:
    """Decode what is to be `content`."""
    sha256 = hashlib.sha256(content).hexdigest()
    return b"".join(decode(chunks, codec, size_bytes=len(content), sha256=sha256, what="it"))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("codec", CODECS)
@given(CONTENT, st.integers(1, 3000), st.integers(1, 3000))
def test_round_trip(codec: Codec, content: bytes, piece_in: int, piece_out: int) -> None:
    form = b"".join(encode(pieces(content, piece_in), codec))
    assert form == b"".join(encode(pieces(content, piece_in), codec))
    assert unfold(pieces(form, piece_out), codec, content) == content


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.ZSTD])
@given(CONTENT, st.data())
def test_damage_is_found(codec: Codec, content: bytes, data: st.DataObject) -> None:
    form = bytearray(b"".join(encode([content], codec)))
    position = data.draw(st.integers(0, len(form) - 1))
    form[position] ^= data.draw(st.integers(1, 255))
    with suppress(IntegrityError):
        # Some bits say nothing of the content, such as a gzip member's time.
        assert unfold([bytes(form)], codec, content) == content


@pytest.mark.parametrize("codec", CODECS)
def test_every_prefix_is_refused(codec: Codec) -> None:
    content = b"salt" * 100 + bytes(3000)
    form = b"".join(encode([content], codec))
    for length in range(0, len(form), 7):
        with pytest.raises(IntegrityError):
            unfold([form[:length]], codec, content)


@pytest.mark.parametrize("codec", CODECS)
def test_other_tools_read_it_and_are_read(codec: Codec) -> None:
    content = b"salt" * 1000 + bytes(100_000)
    form = b"".join(encode([content], codec))
    read = {
        Codec.NONE: lambda data: data,
        Codec.GZIP: gzip.decompress,
        Codec.ZSTD: lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }[codec]
    assert read(form) == content
    written = {
        Codec.NONE: content,
        Codec.GZIP: gzip.compress(content, 9),
        Codec.ZSTD: zstandard.compress(content, 19),
    }[codec]
    assert unfold([written], codec, content) == content


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.ZSTD])
def test_a_bomb_stops_at_the_first_chunk_too_many(codec: Codec) -> None:
    piece = bytes(1 << 20)
    form = b"".join(encode((piece for _ in range(64)), codec))
    taken: list[int] = []
    unfolding = decode([form], codec, size_bytes=1 << 20, sha256="0" * 64, what="it")
    with pytest.raises(IntegrityError, match="unfolds to more than its record says"):
        taken.extend(map(len, unfolding))
    assert sum(taken) <= 1 << 20


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("wrong", [b"salT", b"sal", b"salts"])
def test_other_content_is_refused(codec: Codec, wrong: bytes) -> None:
    with pytest.raises(IntegrityError):
        unfold(encode([wrong], codec), codec, b"salt")


def test_zeros_cost_next_to_nothing() -> None:
    form = b"".join(encode((bytes(1 << 20) for _ in range(32)), Codec.ZSTD))
    assert len(form) < 8 << 10


def test_an_unknown_codec_is_a_clear_error() -> None:
    assert [Codec.parse(name) for name in ("none", "gzip", "zstd")] == CODECS
    with pytest.raises(SaltflatError, match="'xz'") as caught:
        Codec.parse("xz")
    assert caught.value.exit_code == 1
    assert caught.value.expected == "one of: none, gzip, zstd"
