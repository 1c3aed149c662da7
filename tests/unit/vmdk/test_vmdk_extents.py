"""Extents and descriptors of the other kinds that lie: each lie is one named IntegrityError."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from converter.vmdk import c_cowd, c_sesparse
from converter.vmdk import c_vmdk as c
from converter.vmdk.chain import open_chain
from converter.vmdk.check import check_link
from converter.vmdk.reader import Kind, read_link
from tests.unit.vmdk.kinds import K64, KINDS, write_links
from tests.unit.vmdk.kinds import Kind as LinkKind

CAPACITY = 4 * K64
DISK = bytes(range(256)) * 256
BY_NAME = {kind.name: kind for kind in KINDS}
FOOTER, FRONT, COWD, SESPARSE = "stream, footer", "stream, front", "COWD, 8 sectors", "seSparse"

Damage = Callable[[bytearray], object]


def put(position: int, form: str, *values: int | bytes) -> Damage:
    """Return the damage that overwrites little-endian numbers; a negative place is from the end."""

    def apply(data: bytearray) -> None:
        struct.pack_into("<" + form, data, position % len(data), *values)

    return apply


def text(old: str, new: str) -> Damage:
    """Return the damage that changes a descriptor of its own file."""

    def apply(data: bytearray) -> None:
        assert old.encode() in data
        data[:] = data.replace(old.encode(), new.encode())

    return apply


def cut(sectors: int) -> Damage:
    """Return the damage that leaves so many sectors."""
    return lambda data: data.__delitem__(slice(sectors * 512, None))


@dataclass(frozen=True)
class Case:
    """A corruption of a file of a link of one kind, and words of the error that name it."""

    kind: str
    name: str
    damage: Damage
    fault: str
    suffix: str = ""


GRAIN = 128 * 512  # of a stream, byte where its first grain's marker stands
LBA, SIZE, DATA = GRAIN, GRAIN + 8, GRAIN + 12
SE_DIRECTORY = (8 + 1 + 8 + 8) * 512
SE_TABLE = SE_DIRECTORY + 512


def bomb(data: bytearray) -> None:
    """Put a stream of a gigabyte of zeros, in a megabyte, in the place of the first grain."""
    deflate = zlib.compressobj(9)
    packed = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(120)) + deflate.flush()
    assert len(packed) < 2 * K64
    data[SIZE : SIZE + 4] = len(packed).to_bytes(4, "little")
    data[DATA:] = packed + bytes(-(DATA + len(packed)) % 512) + data[GRAIN + 512 :]


def stream_of(size: int) -> Damage:
    """Return the damage that makes the first grain unfold to `size` bytes."""
    packed = zlib.compress(bytes(size))

    def apply(data: bytearray) -> None:
        data[SIZE : SIZE + 4 + len(packed)] = len(packed).to_bytes(4, "little") + packed

    return apply


CASES = [
    Case(FOOTER, "no footer", cut(100), "beyond the end|does not end with one"),
    Case(FOOTER, "too short", cut(3), "too short for its footer"),
    Case(FOOTER, "no end", put(-512 + 12, "I", 9), "does not end with one"),
    Case(FOOTER, "no footer's marker", put(-1536 + 12, "I", 2), "does not end with one"),
    Case(FOOTER, "footer of another kind", put(-1024, "4s", b"COWD"), "footer does not begin"),
    Case(FOOTER, "footer of another size", put(-1024 + 12, "Q", 1024), "not a copy of its header"),
    Case(
        FOOTER, "footer to a footer", put(-1024 + 56, "Q", (1 << 64) - 1), "directory at .* beyond"
    ),
    Case(FOOTER, "grain of another place", put(LBA, "Q", 128), "is that of sector 128 of the disk"),
    Case(FOOTER, "grain of no size", put(SIZE, "I", 0), "has 0 compressed bytes"),
    Case(FOOTER, "grain of 4 GiB", put(SIZE, "I", 0xFFFFFFFF), "has 4294967295 compressed bytes"),
    Case(FOOTER, "grain beyond the end", put(SIZE, "I", 131072), "ends beyond the end of the file"),
    Case(FOOTER, "grain cut short", put(SIZE, "I", 40), "does not unfold to 65536 bytes"),
    Case(FOOTER, "no stream", put(DATA, "I", 0xFFFFFFFF), "does not unfold: "),
    Case(FOOTER, "wrong checksum", put(DATA + 30, "Q", 7), "does not unfold"),
    Case(FOOTER, "a byte too few", stream_of(K64 - 1), "does not unfold to 65536 bytes"),
    Case(FOOTER, "a byte too many", stream_of(K64 + 1), "does not unfold to 65536 bytes"),
    Case(FRONT, "bomb", bomb, "does not unfold to 65536 bytes"),
    Case(FOOTER, "bare deflate", put(8, "I", 0x10001), "compressed grains without markers"),
    Case(FOOTER, "version 4", put(4, "I", 4), "version is 4"),
    Case(FOOTER, "named otherwise", text("streamOptimized", "streamOptimised"), "not stream"),
    Case(FRONT, "table in a table", put(21 * 512, "I", 20), "grain tables at .* descriptor"),
    Case(COWD, "another magic", put(0, "I", 7), "COWD header", "-delta"),
    Case(COWD, "version 2", put(4, "I", 2), "version is 2", "-delta"),
    Case(COWD, "less than a header", cut(3), "less than a COWD header", "-delta"),
    Case(COWD, "grains of no size", put(16, "I", 0), "grains have 0", "-delta"),
    Case(COWD, "grains of 3 sectors", put(16, "I", 3), "grains have 3", "-delta"),
    Case(COWD, "no capacity", put(12, "I", 0), "capacity is 0", "-delta"),
    Case(COWD, "another capacity", put(12, "I", 8), "header says 4096", "-delta"),
    Case(COWD, "too small a directory", put(24, "I", 0), "has 0 entries, not 1", "-delta"),
    Case(COWD, "directory beyond", put(20, "I", 1 << 31), "directory .* beyond the end", "-delta"),
    Case(COWD, "directory in the header", put(20, "I", 3), "lies in its header", "-delta"),
    Case(COWD, "table in the header", put(4 * 512, "I", 2), "lies in its", "-delta"),
    Case(COWD, "table beyond the end", put(4 * 512, "I", 0xFFFFFF), "beyond the end", "-delta"),
    Case(COWD, "grain beyond the end", put(5 * 512, "I", 0xFFFFFF), "beyond the end", "-delta"),
    Case(COWD, "grain in the table", put(5 * 512, "I", 30), "into the grain tables", "-delta"),
    Case(COWD, "grain in the header", put(5 * 512, "I", 1), "before the first grain", "-delta"),
    Case(SESPARSE, "another magic", put(0, "Q", 7), "seSparse header", "-sesparse"),
    Case(SESPARSE, "version 2.2", put(8, "Q", 2 << 32 | 2), "its version is", "-sesparse"),
    Case(SESPARSE, "no capacity", put(16, "Q", 0), "capacity is 0", "-sesparse"),
    Case(SESPARSE, "capacity of 2 EiB", put(16, "Q", 1 << 52), "capacity is", "-sesparse"),
    Case(SESPARSE, "large grains", put(24, "Q", 16), "grain size is 0x10", "-sesparse"),
    Case(SESPARSE, "large tables", put(32, "Q", 128), "grain table size is 0x80", "-sesparse"),
    Case(SESPARSE, "flags", put(40, "Q", 1), "flags is 0x1", "-sesparse"),
    Case(SESPARSE, "no volatile header", put(88, "Q", 0), "no volatile header", "-sesparse"),
    Case(SESPARSE, "a journal", put(8 * 512 + 24, "Q", 1), "has to be replayed", "-sesparse"),
    Case(SESPARSE, "volatile magic", put(8 * 512, "Q", 1), "another magic", "-sesparse"),
    Case(SESPARSE, "areas overlap", put(144, "Q", 25), "lies in its", "-sesparse"),
    Case(SESPARSE, "area beyond", put(144, "Q", 1 << 60), "tables .* beyond the end", "-sesparse"),
    Case(SESPARSE, "small directory", put(136, "Q", 0), "of 0 sectors is too small", "-sesparse"),
    Case(SESPARSE, "table of no type", put(SE_DIRECTORY, "Q", 1), "no known type", "-sesparse"),
    Case(SESPARSE, "no table", put(SE_DIRECTORY, "Q", 1 << 60 | 7), "no table: 7", "-sesparse"),
    Case(SESPARSE, "grain of no type", put(SE_TABLE, "Q", 5 << 60), "no known type", "-sesparse"),
    Case(
        SESPARSE, "no grain", put(SE_TABLE, "Q", 3 << 60 | 99), "beyond the .* sectors", "-sesparse"
    ),
    Case(SESPARSE, "another size", put(16, "Q", 8), "header says 4096", "-sesparse"),
    Case("flat", "shorter than it says", cut(2), "less than the 512 sectors", "-flat"),
    Case("flat", "beyond its end", text(" 0\n", " 1\n"), "less than the 512 sectors from sector 1"),
    Case("flat", "of another type", text(" FLAT ", " SPARSE "), "has a SPARSE extent in"),
    Case("flat", "unknown kind", text("monolithicFlat", "fullDevice"), "'fullDevice', no kind"),
    Case("flat", "not embedded", text("monolithicFlat", "streamOptimized"), "and embedded"),
    Case("flat", "no access", text("RW ", "NOACCESS "), "of access NOACCESS"),
    Case("flat", "of no size", text("RW 512", "RW 0"), "bytes of capacity"),
    Case("flat", "an extent of no size", text("RW 512", "RW 0 ZERO\nRW 512"), "of no size"),
    Case("flat", "absurd capacity", text("RW 512", f"RW {10**18}"), "bytes of capacity"),
    Case("flat", "elsewhere", text("link-0-flat", "../link-0-flat"), "no file beside it"),
    Case("flat", "absolute", text("link-0-flat.vmdk", "/etc/passwd"), "no file beside it"),
    Case("flat", "lost", text("link-0-flat", "gone"), "has lost an extent"),
    Case("vmfs", "with an offset", text('flat.vmdk"', 'flat.vmdk" 8'), "begins at sector 8"),
    Case("vmfs", "no extent", text("RW 512 VMFS", "# "), "has no extent"),
]  # fmt: skip - a table


def read_all(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, min(chain.capacity_bytes, 2 * CAPACITY))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_what_is_no_sound_link_is_named(case: Case, tmp_path: Path) -> None:
    [(path, disk)] = write_links(tmp_path, [(BY_NAME[case.kind], ((0, DISK),))], CAPACITY)
    assert read_all(path) == disk
    victim = path.with_name(f"{path.stem}{case.suffix}.vmdk")
    data = bytearray(victim.read_bytes())
    case.damage(data)
    assert bytes(data) != victim.read_bytes()
    victim.write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"(?s)link-0.*({case.fault})"):
        read_all(path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_check_of_every_sector_takes_our_own_links_alone(
    kind: LinkKind, tmp_path: Path
) -> None:
    """A store holds monolithicSparse; what is something else is refused and not half checked."""
    [(path, _)] = write_links(tmp_path, [(kind, ((0, DISK),))], CAPACITY)
    if kind.name.startswith("sparse"):
        assert check_link(path).grains > 0
        return
    with pytest.raises(IntegrityError, match=r"link-0\.vmdk .*(streamOptimized|not monolithic)"):
        check_link(path)


@pytest.mark.parametrize("grain_sectors", [1, 2, 4, 8, 256, 2048])
def test_grains_that_we_do_not_write_are_read(grain_sectors: int, tmp_path: Path) -> None:
    """Of 1 to 2048 sectors: an extent made by hand, for no writer of ours makes one."""
    capacity, table_reach = 3 << 20, 512 * grain_sectors
    sectors = capacity // 512
    tables = -(-sectors // table_reach)
    wanted = bytearray(capacity)
    first = -(-(30 + 4 * tables) // grain_sectors) * grain_sectors
    grains = sorted({0, min(511, sectors // grain_sectors - 1), sectors // grain_sectors - 1})
    path = descriptor(tmp_path, "monolithicSparse", f'RW {sectors} SPARSE "disk.vmdk"')
    text = path.read_bytes()
    header = c.SparseExtentHeader(
        c.SPARSE_MAGICNUMBER,
        1,
        1,
        sectors,
        grain_sectors,
        1,
        20,
        512,
        0,
        21,
        first,
        0,
        b"\n",
        b" ",
        b"\r",
        b"\n",
        0,
    )  # fmt: skip - one line of the format
    with path.open("wb") as file:
        file.write(c.SPARSE_EXTENT_HEADER.pack(*header) + text)
        for index in range(tables):
            file.seek(21 * 512 + 4 * index)
            file.write(struct.pack("<I", 30 + 4 * index))
        for place, number in enumerate(grains):
            sector = first + place * grain_sectors
            file.seek((30 + 4 * (number // 512)) * 512 + 4 * (number % 512))
            file.write(struct.pack("<I", sector))
            file.seek(sector * 512)
            data = bytes([place + 1]) * (grain_sectors * 512)
            file.write(data)
            wanted[number * len(data) : (number + 1) * len(data)] = data
    assert tables * 4 <= 9 * 128
    assert read_all_of(path) == wanted


def test_a_link_whose_changes_are_tracked_is_read(tmp_path: Path) -> None:
    """Version 3 of what is not compressed; the file of changed blocks is not looked at."""
    [(path, disk)] = write_links(tmp_path, [(KINDS[0], ((0, DISK),))], CAPACITY)
    with path.open("rb+") as file:
        file.seek(4)
        file.write(b"\3")
    assert read_all_of(path) == disk


def test_a_stream_of_version_1_is_read(tmp_path: Path) -> None:
    """As QEMU wrote it before 2.5."""
    [(path, disk)] = write_links(tmp_path, [(BY_NAME[FRONT], ((0, DISK),))], CAPACITY)
    with path.open("rb+") as file:
        file.seek(4)
        file.write(b"\1")
    assert read_all_of(path) == disk


def read_all_of(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.capacity_bytes)


def test_an_extent_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    [(path, _)] = write_links(tmp_path, [(BY_NAME["vmfs"], ((0, DISK),))], CAPACITY)
    raw = tmp_path / "link-0-flat.vmdk"
    (tmp_path / "sub").mkdir()
    raw.rename(tmp_path / "sub" / "raw")
    raw.symlink_to("sub/raw")
    with pytest.raises(IntegrityError, match="symbolic link"):
        read_link(path)


def descriptor(folder: Path, create_type: str, *rows: str) -> Path:
    lines = ["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff"]
    path = folder / "disk.vmdk"
    path.write_text("\n".join([*lines, f'createType="{create_type}"', *rows, ""]))
    return path


def test_extents_of_many_kinds_make_one_disk(tmp_path: Path) -> None:
    """Parts of one file in any order, zeros between them, and a sparse extent."""
    raw = b"".join(bytes([number]) * 512 for number in range(1, 9))
    (tmp_path / "raw").write_bytes(raw)
    write_links(tmp_path, [(KINDS[0], ((0, DISK),))], CAPACITY)
    rows = ('RW 2 FLAT "raw" 5', "RW 3 ZERO", f'RDONLY {CAPACITY // 512} SPARSE "link-0.vmdk"')
    path = descriptor(tmp_path, "custom", *rows, 'RW 4 FLAT "raw" 0')
    wanted = raw[5 * 512 : 7 * 512] + bytes(3 * 512) + DISK.ljust(CAPACITY, b"\0") + raw[:2048]
    with open_chain(path) as chain:
        assert chain.read(0, chain.capacity_bytes) == wanted
        for begin in (0, 511, 1023, 1025, 2559, 2561, len(wanted) - 2049):
            assert chain.read(begin, 2000) == wanted[begin : begin + 2000]
        rest = bytearray(wanted)
        offsets = [offset for offset, _ in chain.grains()]
        assert offsets == sorted(set(offsets))
        for offset in offsets:
            rest[offset : offset + chain.grain_bytes] = bytes(chain.grain_bytes)
        assert not any(rest)
        with pytest.raises(ValueError, match="not within"):
            chain.read(len(wanted) - 1, 2)


def test_one_sparse_file_is_no_two_extents(tmp_path: Path) -> None:
    write_links(tmp_path, [(KINDS[0], ((0, DISK),))], CAPACITY)
    os.link(tmp_path / "link-0.vmdk", tmp_path / "again.vmdk")
    row = f"RW {CAPACITY // 512} SPARSE"
    for name in ("link-0.vmdk", "again.vmdk"):
        path = descriptor(
            tmp_path, "twoGbMaxExtentSparse", f'{row} "link-0.vmdk"', f'{row} "{name}"'
        )
        with pytest.raises(IntegrityError, match=f"two of its extents are in '{name}'"):
            read_link(path)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_link_closes_all_its_files(tmp_path: Path) -> None:
    before = open_files()
    for kind in KINDS:
        folder = tmp_path / kind.name
        folder.mkdir()
        [(path, _)] = write_links(folder, [(kind, ((0, DISK),))], CAPACITY)
        with read_link(path) as link:
            assert link.capacity_bytes == CAPACITY
        path.with_name(f"{path.stem}-flat.vmdk").unlink(missing_ok=True)
        if kind.name in {"flat", "vmfs"}:
            with pytest.raises(IntegrityError, match="has lost an extent"):
                read_link(path)
    assert open_files() == before


def test_holes_of_a_flat_disk_are_told_as_zeros(tmp_path: Path) -> None:
    changes = ((10 * K64, b"x" * 512), (12 * K64 + 4096, b"y" * 4096))
    [(path, disk)] = write_links(tmp_path, [(BY_NAME["flat"], changes)], 64 << 20)
    with read_link(path) as link:
        found = [piece for piece in link.pieces(0, 64 << 20) if piece.kind is Kind.DATA]
    assert [(piece.offset, piece.length) for piece in found] == [(10 * K64, K64), (12 * K64, K64)]
    with open_chain(path) as chain:
        assert chain.read(9 * K64, 5 * K64) == disk[9 * K64 : 14 * K64]


def test_the_numbers_are_those_of_the_formats() -> None:
    """Against a slip in the tables: the sizes that everything rests on."""
    assert c_cowd.COWD_GT_SIZE * 512 == c_cowd.COWD_NUM_GTES_PER_GT * 4
    assert c_sesparse.SESPARSE_GRAIN_TABLE_SIZE * 512 == c_sesparse.SESPARSE_NUM_GTES_PER_GT * 8
