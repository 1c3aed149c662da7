"""Sparse maps: what is read from each form, and hostile ones that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import IntegrityError
from converter.layer.sparse import MAX_SEGMENTS
from converter.layer.tar import read_entries
from tests.images.raw_tar import header, number, padded, pax

Pairs = list[tuple[int, int]]


def _sparses(pairs: Pairs, room: int) -> bytes:
    packed = b"".join(number(at) + number(length) for at, length in pairs)
    return packed.ljust(24 * room, b"\0")


def oldgnu(pairs: Pairs, size: int, data: bytes) -> bytes:
    """Return an archive whose only member has an old GNU map."""
    more = [pairs[at : at + 21] for at in range(4, len(pairs), 21)]
    first = _sparses(pairs[:4], 4) + (b"\1" if more else b"\0") + number(size)
    blocks = b"".join(
        (_sparses(part, 21) + (b"\1" if part is not more[-1] else b"\0")).ljust(512, b"\0")
        for part in more
    )
    block = header(b"f", b"S", size=len(data), magic=b"ustar  \0", sparse=first)
    return block + blocks + padded(data)


def _pax(records: list[tuple[str, object]], data: bytes) -> bytes:
    return pax(records) + header(b"GNUSparseFile.1/f", size=len(data)) + padded(data)


def pax_00(pairs: Pairs, size: int, data: bytes) -> bytes:
    """Return an archive with a map of version 0.0."""
    records: list[tuple[str, object]] = [("GNU.sparse.size", size), ("path", "f")]
    for at, length in pairs:
        records += [("GNU.sparse.offset", at), ("GNU.sparse.numbytes", length)]
    return _pax(records, data)


def pax_01(pairs: Pairs, size: int, data: bytes) -> bytes:
    """Return an archive with a map of version 0.1."""
    numbers = ",".join(f"{at},{length}" for at, length in pairs)
    return _pax(
        [("GNU.sparse.size", size), ("GNU.sparse.name", "f"), ("GNU.sparse.map", numbers)], data
    )


def pax_10(pairs: Pairs, size: int, data: bytes) -> bytes:
    """Return an archive with a map of version 1.0."""
    lines = [len(pairs), *(number for pair in pairs for number in pair)]
    packed = padded("".join(f"{line}\n" for line in lines).encode())
    return _pax(
        [
            ("GNU.sparse.major", 1),
            ("GNU.sparse.minor", 0),
            ("GNU.sparse.name", "f"),
            ("GNU.sparse.realsize", size),
        ],
        packed + data,
    )


FORMS = [oldgnu, pax_00, pax_01, pax_10]


@st.composite
def sparse_files(draw: st.DrawFn) -> tuple[Pairs, int, bytes]:
    """Draw a map with gaps of any size, empty segments among them, and its data."""
    pairs: Pairs = []
    position = 0
    for gap, length in draw(
        st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000)), max_size=60)
    ):
        pairs.append((position + gap, length))
        position += gap + length
    size = position + draw(st.integers(0, 1 << 36))
    return pairs, size, bytes(number % 251 for number in range(sum(n for _, n in pairs)))


@pytest.mark.parametrize("form", FORMS)
@given(sparse_files(), st.sampled_from([1, 100, 512, 1 << 20]))
def test_a_map_is_read_as_it_was_written(
    form: object, file: tuple[Pairs, int, bytes], chunk_size: int
) -> None:
    pairs, size, data = file
    archive = form(pairs, size, data)  # type: ignore[operator]  # parametrize knows no signatures
    chunks = (archive[at : at + chunk_size] for at in range(0, len(archive), chunk_size))
    seen = [(entry, b"".join(map(bytes, entry.data))) for entry in read_entries(chunks)]
    ((entry, stored),) = seen
    assert (entry.path, entry.size, stored) == (b"f", size, data)
    stretches = tuple(pair for pair in pairs if pair[1])
    assert entry.segments == (None if len(data) == size else stretches)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("pairs", "size", "stored", "message"),
    [
        ([(0, 512), (256, 512)], 4096, 1024, "ascending"),
        ([(1024, 512), (0, 512)], 4096, 1024, "ascending"),
        ([(0, 512), (4096, 1)], 4096, 513, "within its size"),
        ([(1 << 62, 512)], 4096, 512, "within its size"),
        ([(0, 512)], 4096, 100, "lists 512 bytes, 100 are stored"),
        ([], 4096, 100, "lists 0 bytes, 100 are stored"),
        ([(0, 512)], 1 << 45, 512, "claims a size"),
        ([(0, 512)], 1 << 62, 512, "claims a size"),
    ],
)
def test_hostile_maps_are_refused(
    form: object, pairs: Pairs, size: int, stored: int, message: str
) -> None:
    archive = form(pairs, size, bytes(stored))  # type: ignore[operator]  # as above
    with pytest.raises(IntegrityError) as caught:
        list(read_entries([archive]))
    assert message in f"{caught.value.what} {caught.value.expected}"
    assert caught.value.what.startswith("member 'f': ")


@pytest.mark.parametrize("pair", [(-512, 512), (0, -512)])
def test_negative_numbers_of_gnu_maps_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(IntegrityError, match="sparse map has"):
        list(read_entries([oldgnu([pair], 4096, bytes(512))]))


def test_a_negative_size_of_a_gnu_map_without_segments_is_refused() -> None:
    with pytest.raises(IntegrityError, match="claims a size of -4096 bytes"):
        list(read_entries([oldgnu([], -4096, b"")]))


@pytest.mark.parametrize("form", [oldgnu, pax_10])
def test_maps_with_too_many_segments_are_refused_before_they_are_kept(form: object) -> None:
    pairs = [(at, 1) for at in range(MAX_SEGMENTS + 22)]
    archive = form(pairs, 1 << 30, bytes(len(pairs)))  # type: ignore[operator]  # as above
    with pytest.raises(IntegrityError, match="segments"):
        list(read_entries([archive]))


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (oldgnu([(at, 1) for at in range(9)], 4096, b"123456789")[:512], "ends in the middle"),
        (_pax([("GNU.sparse.major", 2), ("GNU.sparse.minor", 0)], b""), "unknown format"),
        (_pax([("GNU.sparse.major", 1)], b""), "unknown format"),
        (_pax([("GNU.sparse.size", 9), ("GNU.sparse.map", "1,2,3")], b""), "without a length"),
        (_pax([("GNU.sparse.size", 9), ("GNU.sparse.map", "1,-2")], b""), "bad sparse map"),
        (_pax([("GNU.sparse.size", -9), ("GNU.sparse.map", "1,2")], b""), "bad GNU.sparse.size"),
        (_pax([("GNU.sparse.major", 1), ("GNU.sparse.minor", 0)], b""), "no end"),
        (_pax([("GNU.sparse.major", 1), ("GNU.sparse.minor", 0)], b"1" * 1024), "no end"),
        (
            _pax([("GNU.sparse.major", 1), ("GNU.sparse.minor", 0)], padded(b"x\n")),
            "bad sparse map",
        ),
        (_pax([("GNU.sparse.major", 1), ("GNU.sparse.minor", 0)], padded(b"9\n1\n")), "no end"),
    ],
)
def test_malformed_maps_are_refused(archive: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        list(read_entries([archive]))
