"""Links that lie: every corruption is named, and never costs more than an IntegrityError."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from converter.vmdk.c_vmdk import SPARSE_EXTENT_HEADER, SparseExtentHeader
from converter.vmdk.chain import open_chain
from converter.vmdk.check import check_link
from converter.vmdk.reader import read_link
from converter.vmdk.scratch import write_scratch
from tests.unit.vmdk.chains import LinkPlan, ParentRef, Write, cid_of, write_chain

GRAIN = 4096
CAPACITY = 1100 * GRAIN  # three tables, the last one not whole
CHILD = LinkPlan(GRAIN, (Write(0, (1, 3, 0)), Write(600, (5,))))
# Of the child, in sectors: grains at 24, 32 and 40, tables 0 and 1 behind them, then the directory.
TABLE_0, TABLE_1, DIRECTORY, END = 48, 52, 56, 57

Damage = Callable[[bytearray], object]


def in_header(**changes: int) -> Damage:
    """Return the damage that sets header fields."""

    def apply(data: bytearray) -> None:
        header = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack(data[:512]))
        data[:512] = SPARSE_EXTENT_HEADER.pack(*header._replace(**changes))

    return apply


def entry(sector: int, index: int, value: int) -> Damage:
    """Return the damage that sets entry `index` of the table or directory at `sector`."""
    begin = sector * 512 + index * 4
    return lambda data: data.__setitem__(slice(begin, begin + 4), value.to_bytes(4, "little"))


def text(old: bytes, new: bytes) -> Damage:
    """Return the damage that changes the descriptor, in its room."""

    def apply(data: bytearray) -> None:
        room = bytes(data[512 : 21 * 512])
        assert old in room
        data[512 : 21 * 512] = room.replace(old, new, 1)[: 20 * 512].ljust(20 * 512, b"\0")

    return apply


def size(sectors: float) -> Damage:
    """Return the damage that cuts or extends the file."""
    count = int(sectors * 512)

    def apply(data: bytearray) -> None:
        data.extend(bytes(max(0, count - len(data))))
        del data[count:]

    return apply


def poke(position: int, value: bytes) -> Damage:
    """Return the damage that overwrites bytes."""
    return lambda data: data.__setitem__(slice(position, position + len(value)), value)


@dataclass(frozen=True)
class Case:
    """A corruption, and words of the error that name it."""

    name: str
    damage: Damage
    fault: str


# What is found when a link is opened, or at the latest when the damaged place is read.
READING = [
    Case("empty file", size(0), "size of 0 bytes"),
    Case("less than a header", size(0.5), "size of 256 bytes"),
    Case("cut in the descriptor", size(5), "beyond the end"),
    Case("cut in the grains", size(30), "beyond the end"),
    Case("cut in the tables", size(53), "beyond the end"),
    Case("cut by half a sector", size(END - 0.5), "not a number of sectors"),
    Case("not a sparse extent", poke(0, b"QFI\xfb"), "does not begin with"),
    Case("a redo log of ESXi", poke(0, b"COWD"), "COWD"),
    Case("version 0", in_header(version=0), "version is 0"),
    Case("version 4", in_header(version=4), "version is 4"),
    Case("zeroed grains in version 1", in_header(version=1), "version does not know"),
    Case("compressed", in_header(flags=0x30005), "streamOptimized"),
    Case("unknown incompatible flag", in_header(flags=0x80000005), "flags 0x80000000"),
    Case("compression without its flag", in_header(compressAlgorithm=1), "compression is 1"),
    Case("transferred as text", poke(75, b"\n\n"), "line ends"),
    Case("no capacity", in_header(capacity=0), "capacity is 0"),
    Case("absurd capacity", in_header(capacity=1 << 63), "capacity is"),
    Case("capacity of another disk", in_header(capacity=CAPACITY // 512 + 8), "descriptor says"),
    Case("larger than its directory", in_header(capacity=1 << 32), "directory .* beyond the end"),
    Case("no grain size", in_header(grainSize=0), "grains have 0"),
    Case("grain size no power of two", in_header(grainSize=24), "grains have 24"),
    Case("grain size too large", in_header(grainSize=1 << 40), "grains have"),
    Case("tables of another size", in_header(numGTEsPerGT=4096), "4096 entries"),
    Case("no descriptor", in_header(descriptorOffset=0), "descriptor is at sector 0"),
    Case("descriptor elsewhere", in_header(descriptorOffset=24), "descriptor is at sector 24"),
    Case("descriptor of no size", in_header(descriptorSize=0), "descriptor has 0"),
    Case("descriptor of absurd size", in_header(descriptorSize=1 << 62), "descriptor has"),
    Case("directory at the end", in_header(gdOffset=(1 << 64) - 1), "footer"),
    Case("directory beyond the end", in_header(gdOffset=END), "directory .* beyond the end"),
    Case("directory in the header", in_header(gdOffset=0), "lies in its descriptor"),
    Case("directory in the descriptor", in_header(gdOffset=5), "lies in its descriptor"),
    Case("copies beyond the end", in_header(flags=7, rgdOffset=1 << 60), "redundant .* beyond"),
    Case("copies that are the tables", in_header(flags=7, rgdOffset=DIRECTORY), "lies in"),
    Case("grains beyond the end", in_header(overHead=1 << 60), "first grain .* beyond the end"),
    Case("grains in the descriptor", in_header(overHead=8), "lies in its descriptor"),
    Case("table beyond the end", entry(DIRECTORY, 1, END), "beyond the end"),
    Case("table far beyond the end", entry(DIRECTORY, 1, 0xFFFFFFFF), "beyond the end"),
    Case("table in the descriptor", entry(DIRECTORY, 0, 3), "lies in its descriptor"),
    Case("table in the header", entry(DIRECTORY, 0, 1), "lies in its"),
    Case("one table twice", entry(DIRECTORY, 2, TABLE_0), "lies in another one"),
    Case("tables that overlap", entry(DIRECTORY, 2, TABLE_0 - 1), "lies in another one"),
    Case("table in the directory", entry(DIRECTORY, 0, DIRECTORY - 3), "lies in"),
    Case("grain beyond the end", entry(TABLE_0, 0, 0xFFFFFFF8), "beyond the end"),
    Case("grain half beyond the end", entry(TABLE_0, 1, END - 7), "beyond the end"),
    Case("grain in the descriptor", entry(TABLE_0, 7, 16), "before the first grain"),
    Case("grain in a table", entry(TABLE_1, 90, TABLE_0), "into the grain tables"),
    Case("grain into a table", entry(TABLE_1, 90, TABLE_0 - 7), "into the grain tables"),
    Case("zero grain without its flag", in_header(flags=1), "sector 1, before"),
    Case("another kind of disk", text(b"monolithicSparse", b"custom"), "type is 'custom'"),
    Case("descriptor of another size", text(b"RW 8800", b"RW 8808"), "descriptor says"),
    Case("descriptor with a flat extent", text(b" SPARSE ", b" FLAT "), "one sparse one"),
    Case("two extents", text(b"#DDB", b'RW 1 SPARSE "x"'), "one sparse one"),
    Case("binary descriptor", poke(600, b"\xfe\xff"), "not UTF-8"),
    Case("no descriptor text", poke(512, b"\0"), "no version"),
]

# What reads well, but cannot have been written so.
CHECKING = [
    Case("tracked changes", in_header(version=3), "version is 3"),
    Case("not closed", in_header(uncleanShutdown=1), "did not close it"),
    Case("padding of the header", poke(511, b"x"), "padding of its header"),
    Case("behind the descriptor", poke(21 * 512 - 2, b"x"), "behind its descriptor"),
    Case("padding before the grains", poke(23 * 512, b"x"), "padding at sector 21"),
    Case("unaligned first grain", in_header(overHead=22), "not aligned"),
    Case("first grain unused", in_header(overHead=32), "before the first grain|first grain is at"),
    Case("two grains in one place", entry(TABLE_0, 9, 24), "two table entries"),
    Case("two grains that overlap", entry(TABLE_0, 9, 28), "not aligned"),
    Case("a lost grain", entry(TABLE_0, 0, 0), "8 sectors are unused"),
    Case("a lost table", entry(DIRECTORY, 1, 0), "12 sectors are unused"),
    Case("something appended", size(END + 8), "8 sectors are unused"),
    Case("directory in a table", in_header(gdOffset=TABLE_1), "sectors are unused"),
]


@pytest.fixture
def links(tmp_path: Path) -> list[Path]:
    return write_chain(tmp_path, [LinkPlan(GRAIN), CHILD], CAPACITY)


def damaged(path: Path, case: Case) -> Path:
    data = bytearray(path.read_bytes())
    before = bytes(data)
    case.damage(data)
    assert bytes(data) != before
    path.write_bytes(data)
    return path


def read_all(top: Path) -> None:
    with open_chain(top) as chain:
        chain.read(0, chain.capacity_bytes)
        list(chain.grains())


def test_the_undamaged_link_is_sound(links: list[Path]) -> None:
    read_all(links[1])
    report = check_link(links[1])
    assert (report.grains, report.zero_grains, report.tables) == (3, 1, 2)
    assert (report.size_bytes, report.capacity_bytes) == (END * 512, CAPACITY)
    assert (report.cid, report.parent_cid) == (cid_of(1), cid_of(0))


@pytest.mark.parametrize("case", READING, ids=lambda case: case.name)
def test_a_reader_finds(case: Case, links: list[Path]) -> None:
    path = damaged(links[1], case)
    with pytest.raises(IntegrityError, match=rf"(?s)link-1\.vmdk.*({case.fault})"):
        read_all(path)
    with pytest.raises(IntegrityError, match=r"link-1\.vmdk"):
        check_link(path)


@pytest.mark.parametrize("case", CHECKING, ids=lambda case: case.name)
def test_the_check_finds(case: Case, links: list[Path]) -> None:
    path = damaged(links[1], case)
    with pytest.raises(IntegrityError, match=rf"(?s)link-1\.vmdk.*({case.fault})"):
        check_link(path)


def test_a_file_longer_than_its_entries_reach_takes_no_memory(links: list[Path]) -> None:
    os.truncate(links[1], 8 << 40)  # a hole, of which the check would keep a byte per grain
    with pytest.raises(IntegrityError, match="more than table entries can point to"):
        check_link(links[1])


def test_the_check_finds_entries_beyond_the_capacity(tmp_path: Path) -> None:
    (path,) = write_chain(tmp_path, [LinkPlan(GRAIN, (Write(1099, (1,)),))], CAPACITY)
    damaged(path, Case("", entry(32, 1100 - 1024, 24), ""))
    with pytest.raises(IntegrityError, match="table 2 has entries beyond the capacity"):
        check_link(path)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (entry(22, 5, 48), "table 0 and its copy differ"),
        (entry(35, 5, 48), "table 0 and its copy differ"),
        (entry(21, 1, 0), "nothing points to sector 26|not both there"),
        (entry(34, 1, 0), "nothing points to sector 39|not both there"),
    ],
)
def test_the_check_compares_both_copies(damage: Damage, fault: str, tmp_path: Path) -> None:
    path = _scratch(tmp_path)
    assert check_link(path).tables == 3
    damaged(path, Case("", damage, ""))
    with pytest.raises(IntegrityError, match=fault):
        check_link(path)


def test_what_qemu_leaves_behind_the_text_of_a_writable_link_is_no_fault(tmp_path: Path) -> None:
    """It replaces "CID=12345678" by "CID=123" and leaves the old end behind the new NUL."""
    path = _scratch(tmp_path)
    text = path.read_bytes()[512 : 21 * 512].rstrip(b"\0")
    damaged(path, Case("", poke(512 + len(text) - 1, b"\0"), ""))
    damaged(path, Case("", poke(512 + len(text), b'"\0\0\0\0\0"'), ""))
    assert check_link(path).cid == 1
    damaged(path, Case("", poke(512 + len(text) + 7, b"x"), ""))
    with pytest.raises(IntegrityError, match="behind its descriptor"):
        check_link(path)


def _scratch(folder: Path) -> Path:
    path = folder / "scratch.vmdk"
    with path.open("wb+", buffering=0) as file:
        write_scratch(
            file, capacity_bytes=CAPACITY, grain_bytes=GRAIN, cid=1, parent=ParentRef(2, "b.vmdk")
        )
    return path


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it for reading would wait for a writer
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(IntegrityError, match="not a regular file"):
            read_link(path)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(links: list[Path]) -> None:
    with open_chain(links[1]) as chain:
        os.truncate(links[1], 26 * 512)
        with pytest.raises(IntegrityError, match="it ends at byte"):
            chain.read(0, GRAIN)


def test_a_huge_hole_costs_no_memory(tmp_path: Path) -> None:
    (path,) = write_chain(tmp_path, [LinkPlan(GRAIN)], CAPACITY)
    os.truncate(path, 1 << 40)
    with pytest.raises(IntegrityError, match="sectors are unused"):
        check_link(path)
