"""Chains of links of any kinds against a plain bytearray, and damage against their readers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import IntegrityError
from converter.vmdk.chain import open_chain
from tests.unit.vmdk.kinds import CHILDREN, K64, KINDS, UNIT, Changes, Kind, write_links

CAPACITY = 36 * K64  # two tables of sparse with small grains, two of COWD with the smallest
SECTORS = CAPACITY // UNIT


@st.composite
def changes_of_a_link(draw: st.DrawFn) -> Changes:
    """Draw runs of sectors: zeros, one byte, or each sector another."""
    places = st.one_of(
        st.integers(0, SECTORS - 1),
        st.sampled_from((0, 127, 128, 4095, 4096, SECTORS - 1)),
    )
    changes = []
    for sector, count, pattern in draw(
        st.lists(st.tuples(places, st.integers(1, 300), st.integers(0, 255)), max_size=4)
    ):
        last = min(sector + count, SECTORS)
        content = b"".join(
            bytes([pattern]) * (UNIT - 2) + number.to_bytes(2, "big") * (pattern % 3 == 1)
            for number in range(sector, last)
        )
        length = (last - sector) * UNIT
        changes.append((sector * UNIT, content.ljust(length, bytes([pattern]))))
    return tuple(changes)


@st.composite
def mixed_links(draw: st.DrawFn) -> list[tuple[Kind, Changes]]:
    """Draw a chain of up to 24 links of any kinds; only the base may be flat."""
    count = draw(st.one_of(st.integers(1, 5), st.integers(1, 24)))
    return [
        (draw(st.sampled_from(CHILDREN if number else KINDS)), draw(changes_of_a_link()))
        for number in range(count)
    ]


def written(below: bytes, pieces: Iterable[tuple[int, bytes]], unit: int) -> bytes:
    """Return a disk that was `below` before `pieces` were written, whole units in order."""
    disk, end = bytearray(below), 0
    for offset, piece in pieces:
        assert offset >= end
        assert offset % unit == 0
        end = offset + len(piece)
        assert end % unit == 0 or end == CAPACITY
        disk[offset:end] = piece
    return bytes(disk)


@settings(max_examples=20, deadline=None)
@given(links=mixed_links(), data=st.data())
def test_a_chain_of_any_kinds_reads_as_the_model(
    links: list[tuple[Kind, Changes]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disks = write_links(Path(folder), links, CAPACITY)
        path, disk = disks[-1]
        with open_chain(path) as chain:
            assert chain.read(0, CAPACITY) == disk
            begin = data.draw(st.integers(0, CAPACITY))
            end = data.draw(st.integers(begin, min(CAPACITY, begin + 200_000)))
            assert chain.read(begin, end - begin) == disk[begin:end]
            unit = data.draw(st.sampled_from((512, 4096, K64, 5 << 20)))
            assert written(bytes(CAPACITY), chain.contents(unit), unit) == disk
            below = disks[-2][1] if len(disks) > 1 else bytes(CAPACITY)
            assert written(below, chain.changes(unit), unit) == disk
            rest = bytearray(disk)
            for offset, _ in chain.grains():
                rest[offset : offset + chain.grain_bytes] = bytes(chain.grain_bytes)
            assert not any(rest)


_DAMAGED: Changes = ((0, b"x" * 3 * UNIT), (K64, bytes(K64)), (20 * K64, bytes(range(256)) * 512))


@cache
def originals(kind: Kind) -> dict[str, bytes]:
    """Return the files of one or two links; those of the topmost are of `kind`."""
    links = [(KINDS[0], _DAMAGED), (kind, _DAMAGED)] if kind.may_be_child else [(kind, _DAMAGED)]
    with tempfile.TemporaryDirectory() as folder:
        write_links(Path(folder), links, CAPACITY)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    which=st.integers(0, 1),
    pokes=st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, 80),
                st.integers(0, 21 * UNIT),
                st.integers(0, 1 << 17),
                st.integers(-4096, -1),
            ),
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from((b"\xff" * 8, bytes(8), b"\1\0\0\0", b"\0\0\0\x30")),
            ),
        ),
        max_size=5,
    ),
    cut=st.one_of(st.none(), st.integers(0, 300 * UNIT)),
)
def test_damage_gives_an_integrity_error_or_reads(
    kind: Kind, which: int, pokes: list[tuple[int, bytes]], cut: int | None
) -> None:
    files = originals(kind)
    top = max(name for name in files if name.count("-") == 1)
    victim = [name for name in files if name.startswith(top.removesuffix(".vmdk"))][-which]
    data = bytearray(files[victim])
    for position, value in pokes:
        at = position % len(data)
        data[at : at + len(value)] = value[: len(data) - at]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (files | {victim: bytes(data[:cut])}).items():
            (Path(folder) / name).write_bytes(content)
        try:
            with open_chain(Path(folder) / top) as chain:
                chain.read(0, min(chain.capacity_bytes, 2 * CAPACITY))
        except IntegrityError as error:
            assert folder in error.what  # noqa: PT017 - reading well is the other good end
