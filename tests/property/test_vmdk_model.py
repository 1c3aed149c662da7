"""A chain of links against a plain bytearray, and links with random damage against the reader."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import IntegrityError
from converter.vmdk.chain import open_chain
from converter.vmdk.check import check_link
from converter.vmdk.descriptor import Descriptor, Extent, ParentRef, parse, render
from tests.unit.vmdk.chains import ZEROS, LinkPlan, Write, disk_of, write_chain

CAPACITY = 1056 * 4096  # 1056, 528 or 264 grains: three, two or one table, the last never whole
GRAIN_SIZES = (4096, 8192, 16384)


@st.composite
def link_plans(draw: st.DrawFn) -> LinkPlan:
    """Draw one link: runs of grains, some of zeros, in any order, none twice."""
    grain_bytes = draw(st.sampled_from(GRAIN_SIZES))
    grains = CAPACITY // grain_bytes
    # Near both ends and around the border of the first two tables more often than elsewhere.
    places = st.one_of(
        st.integers(0, grains - 1),
        st.integers(min(505, grains - 8), min(518, grains - 1)),
        st.sampled_from((0, 1, grains - 2, grains - 1)),
    )
    contents = st.lists(st.integers(0, 3), min_size=1, max_size=12)
    taken: set[int] = set()
    writes = []
    for grain, numbers in draw(st.lists(st.tuples(places, contents), max_size=12)):
        run = range(grain, min(grain + len(numbers), grains))
        if taken.isdisjoint(run):
            taken.update(run)
            writes.append(Write(grain, tuple(numbers[: len(run)])))
    return LinkPlan(grain_bytes, tuple(writes))


@settings(max_examples=60, deadline=None)
@given(plans=st.lists(link_plans(), min_size=1, max_size=4), data=st.data())
def test_a_chain_reads_as_the_model(plans: list[LinkPlan], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_chain(Path(folder), plans, CAPACITY)
        disk = disk_of(plans, CAPACITY)
        with open_chain(paths[-1]) as chain:
            assert chain.read(0, CAPACITY) == disk
            begin = data.draw(st.integers(0, CAPACITY))
            end = data.draw(st.integers(begin, min(CAPACITY, begin + 200_000)))
            assert chain.read(begin, end - begin) == disk[begin:end]
            holding_data = dict(chain.grains())
        size = min(plan.grain_bytes for plan in plans)
        for offset in range(0, CAPACITY, size):
            owner = _owner(plans, offset)
            assert holding_data.get(offset) == owner
        for path, plan in zip(paths, plans, strict=True):
            contents = [content for write in plan.writes for content in write.contents]
            report = check_link(path)
            assert report.grains == len(contents) - contents.count(ZEROS)
            assert report.zero_grains == (0 if path == paths[0] else contents.count(ZEROS))


def _owner(plans: list[LinkPlan], offset: int) -> int | None:
    """Return which link's data the byte at `offset` is, None for zeros."""
    for index in reversed(range(len(plans))):
        grain = offset // plans[index].grain_bytes
        for write in plans[index].writes:
            if 0 <= grain - write.grain < len(write.contents):
                return None if write.contents[grain - write.grain] == ZEROS else index
    return None


VICTIM = [
    LinkPlan(8192, (Write(0, (1, 2, 3)), Write(300, (1,)))),
    LinkPlan(4096, (Write(1, (0, 5)), Write(511, (4, 0)), Write(1050, (2,)))),
]
# Of link 1, in bytes: header and descriptor, then what stands behind its three grains.
FRONT, TAIL = 21 * 512, (24 + 3 * 8) * 512


@settings(max_examples=300, deadline=None)
@given(
    bytes_at=st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, 79),
                st.integers(0, FRONT + 2000),
                st.integers(TAIL, TAIL + 13 * 512 - 1),
                st.sampled_from(
                    [TAIL + table * 2048 + 4 * at for table in range(3) for at in (0, 1, 26, 511)]
                ),
            ),
            st.binary(min_size=1, max_size=8),
        ),
        max_size=6,
    ),
    cut=st.one_of(st.none(), st.integers(0, TAIL + 13 * 512)),
)
def test_a_damaged_link_gives_an_integrity_error_or_reads(
    bytes_at: list[tuple[int, bytes]], cut: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = write_chain(Path(folder), VICTIM, CAPACITY)[-1]
        data = bytearray(top.read_bytes())
        assert len(data) == TAIL + 13 * 512
        for position, value in bytes_at:
            data[position : position + len(value)] = value
        top.write_bytes(data[:cut])
        for use in (_read_all, check_link):
            try:
                use(top)
            except IntegrityError as error:
                assert folder in error.what  # noqa: PT017 - reading well is the other good end


def _read_all(top: Path) -> None:
    with open_chain(top) as chain:
        chain.read(0, chain.capacity_bytes)
        list(chain.grains())


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"/\\:'),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", ".."))


@given(
    cid=st.integers(0, 0xFFFFFFFD),
    parent=st.one_of(st.none(), st.builds(ParentRef, st.integers(0, 0xFFFFFFFD), NAMES)),
    extents=st.lists(
        st.builds(
            Extent,
            st.sampled_from(("RW", "RDONLY", "NOACCESS")),
            st.integers(0, 1 << 40),
            st.sampled_from(("SPARSE", "FLAT", "VMFSSPARSE")),
            NAMES,
            st.one_of(st.none(), st.integers(0, 1 << 40)),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_a_descriptor_survives_its_text(
    cid: int, parent: ParentRef | None, extents: list[Extent]
) -> None:
    descriptor = Descriptor(cid, "custom", tuple(extents), parent, (("comment", "a = b"),))
    assert parse(render(descriptor), "x") == descriptor


@given(text=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_text_is_a_descriptor_or_refused(text: bytes) -> None:
    for whole in (text, b'version=1\nCID=1\ncreateType="custom"\nRW 1 ZERO\n' + text):
        try:
            parse(whole, "x")
        except IntegrityError as error:
            assert "of x " in error.what  # noqa: PT017 - being refused is one of two good ends
