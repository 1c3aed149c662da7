"""Layer streams: content, diffID, faults that cross threads, and threads that end."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest
import zstandard

from converter.errors import IntegrityError
from converter.image.c_oci import LAYER_GZIP
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.layer.decompress import open_layer

PLAIN = b"ustar".rjust(262, b"x") + random.Random(7).randbytes(3_000_000) + bytes(9_000_000)
BLOB = gzip.compress(PLAIN, 1, mtime=0)


def described(blob: bytes) -> Descriptor:
    return Descriptor(LAYER_GZIP, Digest.of(blob), len(blob))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    "blob", [BLOB, zstandard.compress(PLAIN), PLAIN], ids=["gzip", "zstd", "tar"]
)
def test_content_and_diff_id(blob: bytes) -> None:
    with open_layer(io.BytesIO(blob), described(blob)) as stream:
        chunks = list(stream)
        assert b"".join(chunks) == PLAIN
        assert max(map(len, chunks)) <= 1 << 20
        assert stream.diff_id == Digest.of(PLAIN)
        stream.check(Digest.of(PLAIN))
        assert list(stream) == []


def test_another_algorithm() -> None:
    with open_layer(io.BytesIO(BLOB), described(BLOB), algorithm="sha512") as stream:
        stream.check(Digest.of(PLAIN, "sha512"))


def test_a_consumer_that_stops_early_and_drains() -> None:
    with open_layer(io.BytesIO(BLOB), described(BLOB)) as stream:
        first = list(itertools.islice(stream, 3))
        assert b"".join(first) == PLAIN[: sum(map(len, first))]
        with pytest.raises(RuntimeError, match="not been read to its end"):
            _ = stream.diff_id
        stream.drain()
        assert stream.diff_id == Digest.of(PLAIN)


def test_other_content_than_promised() -> None:
    expected = Digest.of(b"something else")
    with (
        open_layer(io.BytesIO(BLOB), described(BLOB)) as stream,
        pytest.raises(IntegrityError, match=str(Digest.of(PLAIN))) as caught,
    ):
        stream.check(expected)
    assert str(Digest.of(BLOB)) in caught.value.what
    assert str(expected) in str(caught.value.expected)


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (BLOB[:-1], "is truncated"),
        (BLOB[:-8] + bytes(8), "is damaged"),
        (BLOB + b"x", "is damaged, after 1 whole members|has garbage|is truncated"),
        (b"nonsense", "is of an unknown format"),
    ],
)
def test_faults_reach_the_consumer_and_name_the_layer(blob: bytes, said: str) -> None:
    with (
        open_layer(io.BytesIO(blob), described(blob)) as stream,
        pytest.raises(IntegrityError, match=said) as caught,
    ):
        stream.drain()
    assert caught.value.what.startswith(f"Layer {Digest.of(blob)} ")


def test_errors_of_the_file_reach_the_consumer() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > len(BLOB) // 2:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with (
        open_layer(Failing(BLOB), described(BLOB)) as stream,
        pytest.raises(OSError, match="Input/output error"),
    ):
        stream.drain()


def test_the_blob_is_verified_on_request() -> None:
    # Other bytes, same content: only the blob's own digest tells.
    other = gzip.compress(PLAIN, 2, mtime=0)
    with open_layer(io.BytesIO(BLOB), described(BLOB), verify_blob=True) as stream:
        stream.check(Digest.of(PLAIN))
    descriptor = Descriptor(LAYER_GZIP, Digest.of(BLOB), len(other))
    with open_layer(io.BytesIO(other), descriptor) as stream:
        stream.check(Digest.of(PLAIN))
    with (
        open_layer(io.BytesIO(other), descriptor, verify_blob=True) as stream,
        pytest.raises(IntegrityError, match=f"Blob {Digest.of(BLOB)} has the digest"),
    ):
        stream.check(Digest.of(PLAIN))


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_closing_at_any_time(taken: int) -> None:
    # A bomb: what is not read must not be inflated either, or this would take a minute.
    bomb = gzip.compress(PLAIN[:512] + bytes(20 << 20), 1)
    started = time.monotonic()
    stream = open_layer(io.BytesIO(bomb * 500), described(bomb))
    for _ in itertools.islice(stream, taken):
        pass
    stream.close()
    stream.close()
    assert time.monotonic() - started < 10
    assert list(stream) == []


def test_closing_while_an_error_passes() -> None:
    def consume() -> None:
        with open_layer(io.BytesIO(BLOB), described(BLOB)) as stream:
            for chunk in stream:
                int(chunk[:1].hex() + "no number")

    with pytest.raises(ValueError, match="no number"):
        consume()


def test_a_slow_consumer_holds_the_others_back() -> None:
    file = io.BytesIO(PLAIN[:512] + bytes(100 << 20))
    with open_layer(file, described(b"")) as stream:
        next(iter(stream))
        deadline = time.monotonic() + 10
        position = -1
        while position != file.tell() and time.monotonic() < deadline:
            position = file.tell()
            threading.Event().wait(0.05)
        assert position < 8 << 20
