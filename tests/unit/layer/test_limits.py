"""What a layer may have, counted in chunks and in members."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError
from converter.layer.limits import RATIO_FREE_BYTES, Limits, bounded
from converter.layer.paths import MAX_PATH_BYTES, normalise, show
from converter.layer.tar import read_entries
from tests.images.raw_tar import header, pax

MIB = 1 << 20


def _count(sizes: list[int], compressed_bytes: int, limits: Limits) -> int:
    """Return how many of the chunks pass; each of them is the same zeros."""
    zeros = bytes(max(sizes))
    chunks = (zeros[:size] for size in sizes)
    return sum(1 for _ in bounded(chunks, "It", compressed_bytes=compressed_bytes, limits=limits))


def test_a_layer_may_be_exactly_as_large_as_its_limit() -> None:
    limits = Limits(max_layer_bytes=10)
    assert _count([4, 6], 1, limits) == 2
    with pytest.raises(IntegrityError, match="It unpacks to more than 10 bytes") as caught:
        _count([4, 6, 1], 1, limits)
    assert "--max-layer-size" in str(caught.value.expected)


def test_a_small_layer_is_never_refused_for_its_ratio() -> None:
    chunks = RATIO_FREE_BYTES // MIB
    limits = Limits(max_ratio=2)
    assert _count([MIB] * chunks, 1, limits) == chunks
    with pytest.raises(IntegrityError, match="has 1 bytes") as caught:
        _count([MIB] * chunks + [1], 1, limits)
    assert "--max-ratio" in str(caught.value.expected)
    assert _count([MIB] * chunks + [MIB], RATIO_FREE_BYTES, limits) == chunks + 1


def test_members_are_counted_but_not_their_extended_headers() -> None:
    archive = (pax([("uid", 7)]) + header(b"f")) * 3
    assert len(list(read_entries([archive], Limits(max_entries=3)))) == 3
    with pytest.raises(IntegrityError, match="more than 2 members") as caught:
        list(read_entries([archive], Limits(max_entries=2)))
    assert "--max-entries" in str(caught.value.expected)


@pytest.mark.parametrize(
    "path",
    [b"a", b"a/b", b".a/..b", b"...", b"a/.b/c..", b"n" * 255, b"\xff/ \n", b"a/" * 2047 + b"a"],
)
def test_normal_paths_are_left_alone(path: bytes) -> None:
    assert normalise(path) == path
    assert normalise(b"./" + path[: MAX_PATH_BYTES - 2]) == path[: MAX_PATH_BYTES - 2].rstrip(b"/")
    if len(path) < MAX_PATH_BYTES:
        assert normalise(path + b"/") == path


@pytest.mark.parametrize("path", [b"a/" * 2048, b"a" * 256, b"a/" + b"b" * 256 + b"/c", b"a\0b"])
def test_impossible_paths_are_refused(path: bytes) -> None:
    with pytest.raises(IntegrityError):
        normalise(path)


def test_paths_are_shown_on_one_line() -> None:
    assert show(b"a\nb\x1b[31m\xff\xc3\xa9") == "'a\\nb\\x1b[31m\\xffé'"
    assert len(show(b"x" * 5000)) == 202
