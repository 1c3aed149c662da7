"""LinkWriter and write_scratch: the bytes they lay down, in what calls, and what they refuse."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from converter.errors import SaltflatError, UsageError
from converter.vmdk import sparse
from converter.vmdk.scratch import write_scratch
from converter.vmdk.sparse import LinkSummary, LinkWriter, ParentRef
from tests.unit.vmdk.chains import LinkPlan, Write, write_link

K64 = 65536
BASE = ParentRef(0x1234, "base.vmdk")
CAPACITY = 600 * K64  # one whole table and a part of a second


class Recorder(io.BytesIO):
    """A file that takes at most `most` bytes at once, and remembers each call."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        self.most = most
        self.calls: list[tuple[int, int]] = []

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # narrower than BytesIO's
        self.calls.append((self.tell(), len(data)))
        return super().write(data[: self.most])


def writer(
    file: io.BytesIO, *, parent: ParentRef | None = None, grain: int = K64, capacity: int = CAPACITY
) -> LinkWriter:
    return LinkWriter(
        file,
        capacity_bytes=capacity,
        grain_bytes=grain,
        cid=0xABCD,
        long_content_id=f"{0xABCD:032x}",
        parent=parent,
    )


def u32(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "little")


def u64(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 8], "little")


def test_the_file_has_this_layout() -> None:
    file = io.BytesIO()
    link = writer(file)
    link.write(513 * K64, b"second table" + bytes(K64 - 12))
    link.write(0, b"first" + bytes(K64 - 5))
    assert link.finish() == LinkSummary(grains=2, zero_grains=0, size_bytes=(3 * 128 + 9) * 512)
    data = file.getvalue()
    assert len(data) == (3 * 128 + 9) * 512
    # Field by field at the offsets of the specification, independent of our struct.
    assert data[:4] == b"KDMV"
    assert u32(data, 4) == 1
    assert u32(data, 8) == 1
    assert u64(data, 12) == 600 * 128
    assert u64(data, 20) == 128
    assert u64(data, 28) == 1
    assert u64(data, 36) == 20
    assert u32(data, 44) == 512
    assert u64(data, 48) == 0
    assert u64(data, 56) == 3 * 128 + 8
    assert u64(data, 64) == 128
    assert data[72:79] == b"\0\n \r\n\0\0"
    assert not any(data[79:512])
    assert data[512:].startswith(b"# Disk DescriptorFile\nversion=1\n")
    # Grains in order of arrival, then two tables, then the directory.
    assert data[128 * 512 :].startswith(b"second table")
    assert data[256 * 512 :].startswith(b"first")
    tables = data[384 * 512 : 392 * 512]
    assert struct.unpack("<1024I", tables) == (256, *[0] * 511, 0, 128, *[0] * 510)
    assert struct.unpack("<128I", data[392 * 512 :]) == (384, 388, *[0] * 126)


def test_an_empty_link_is_header_descriptor_and_directory() -> None:
    file = io.BytesIO()
    assert writer(file).finish() == LinkSummary(0, 0, 129 * 512)
    assert len(file.getvalue()) == 129 * 512


def test_zeros_take_no_room_in_a_base() -> None:
    plain, with_zeros = io.BytesIO(), io.BytesIO()
    one, other = writer(plain), writer(with_zeros)
    one.write(7 * K64, b"x" * K64)
    other.write(6 * K64, bytes(K64) + b"x" * K64 + bytes(300 * K64))
    other.write(520 * K64, bytes(80 * K64))  # a table of its own, with nothing in it
    assert one.finish() == other.finish() == LinkSummary(1, 0, (2 * 128 + 5) * 512)
    assert plain.getvalue() == with_zeros.getvalue()


def test_zeros_hide_the_parents_grain_in_a_child() -> None:
    file = io.BytesIO()
    link = writer(file, parent=BASE)
    link.write(510 * K64, bytes(4 * K64))
    assert link.finish() == LinkSummary(0, 4, (128 + 9) * 512)
    data = file.getvalue()
    assert (u32(data, 4), u32(data, 8)) == (2, 0b101)
    tables = struct.unpack("<1024I", data[128 * 512 : 136 * 512])
    assert [at for at, entry in enumerate(tables) if entry == 1] == [510, 511, 512, 513]


def test_a_child_without_zeros_stays_version_1() -> None:
    file = io.BytesIO()
    link = writer(file, parent=BASE)
    link.write(0, b"x" * K64)
    link.finish()
    assert (u32(file.getvalue(), 4), u32(file.getvalue(), 8)) == (1, 1)


def test_a_grain_that_is_zero_but_for_its_last_byte_is_data() -> None:
    file = io.BytesIO()
    link = writer(file, grain=4096)
    link.write(0, bytes(4095) + b"\1" + bytes(4096))
    assert link.finish().grains == 1


def test_a_run_of_grains_goes_out_in_one_call() -> None:
    file = Recorder()
    link = writer(file, parent=BASE)
    link.write(0, b"a" * 5 * K64 + bytes(2 * K64) + b"b" * 9 * K64)
    assert file.calls == [(128 * 512, 5 * K64), (128 * 512 + 5 * K64, 9 * K64)]


def test_short_writes_lose_nothing() -> None:
    short, whole = Recorder(most=1000), Recorder()
    for file in (short, whole):
        link = writer(file)
        link.write(K64, bytes(range(256)) * 512)
        link.finish()
    assert short.getvalue() == whole.getvalue()
    assert len(short.calls) > len(whole.calls)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type) -> None:
    file = io.BytesIO()
    link = writer(file)
    link.write(0, kind(b"x" * K64))
    assert link.finish().grains == 1


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, K64), (0, K64 + 1), (0, 100), (CAPACITY, K64), (CAPACITY - K64, 2 * K64), (-K64, K64)],
)
def test_writes_that_are_not_whole_grains_of_the_disk_are_errors(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes at {offset}"):
        writer(io.BytesIO()).write(offset, b"x" * size)


@pytest.mark.parametrize("first", [b"x" * K64, bytes(K64)], ids=["data", "zeros"])
@pytest.mark.parametrize("second", [b"y" * K64, bytes(K64)], ids=["data", "zeros"])
@pytest.mark.parametrize("parent", [None, BASE], ids=["base", "child"])
def test_a_grain_is_written_once_only(
    first: bytes, second: bytes, parent: ParentRef | None
) -> None:
    link = writer(io.BytesIO(), parent=parent)
    link.write(512 * K64, first)
    with pytest.raises(ValueError, match=r"grain in 512\.\.513"):
        link.write(511 * K64, second * 3)


def test_a_finished_link_takes_nothing_more() -> None:
    link = writer(io.BytesIO())
    link.finish()
    with pytest.raises(ValueError, match="finished"):
        link.write(0, b"x" * K64)
    with pytest.raises(ValueError, match="finished"):
        link.finish()


@pytest.mark.parametrize(
    ("capacity", "grain"),
    [
        (K64 + 4096, K64),
        (0, K64),
        (-K64, K64),
        ((2 << 40) + K64, K64),
        (12288, 12288),
        (K64, 2048),
        (2 * K64, 2 * K64),
        (K64, 0),
        (K64, 4097),
    ],
)
def test_sizes_that_no_link_may_have_are_errors(capacity: int, grain: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        writer(io.BytesIO(), capacity=capacity, grain=grain)
    with pytest.raises(ValueError, match="bytes"):
        write_scratch(io.BytesIO(), capacity_bytes=capacity, grain_bytes=grain, cid=1, parent=BASE)


def test_the_largest_capacity_is_taken() -> None:
    file = io.BytesIO()
    link = writer(file, capacity=2 << 40)
    link.write((2 << 40) - K64, b"x" * K64)
    assert link.finish().grains == 1


def test_ids_and_names_are_checked() -> None:
    file = io.BytesIO()
    with pytest.raises(ValueError, match="CID"):
        LinkWriter(file, capacity_bytes=K64, cid=0xFFFFFFFF, long_content_id="f" * 32, parent=None)
    with pytest.raises(ValueError, match="long content ID"):
        LinkWriter(file, capacity_bytes=K64, cid=1, long_content_id="f" * 32, parent=None)
    with pytest.raises(ValueError, match="CID"):
        writer(file, parent=ParentRef(0xFFFFFFFF, "base.vmdk"))
    with pytest.raises(UsageError, match="cannot name"):
        writer(file, parent=ParentRef(1, "../base.vmdk"))
    assert file.getvalue() == b""


def test_a_link_that_32_bit_sectors_cannot_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "SECTOR_LIMIT", 128 * 3)  # the real one takes 2 TiB of data
    link = writer(io.BytesIO())
    link.write(0, b"x" * 2 * K64)
    with pytest.raises(SaltflatError, match="beyond 2 TiB"):
        link.write(2 * K64, b"x" * K64)
    with pytest.raises(SaltflatError, match="beyond 2 TiB"):
        link.finish()  # no room for the tables either


def test_the_same_writes_give_the_same_bytes(tmp_path: Path) -> None:
    plan = LinkPlan(8192, (Write(900, (3, 0, 2)), Write(5, (1, 1))))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_link(tmp_path / name / "x.vmdk", plan, 1000 * 8192)
    assert (tmp_path / "a/x.vmdk").read_bytes() == (tmp_path / "b/x.vmdk").read_bytes()


@pytest.mark.parametrize("grain", [4096, K64])
def test_a_scratch_link_has_every_table_twice(grain: int, tmp_path: Path) -> None:
    capacity = 1300 * grain  # three tables, the last one not whole
    with (tmp_path / "scratch.vmdk").open("wb+", buffering=0) as file:
        write_scratch(file, capacity_bytes=capacity, grain_bytes=grain, cid=5, parent=BASE)
    data = (tmp_path / "scratch.vmdk").read_bytes()
    assert (u32(data, 4), u32(data, 8)) == (1, 0b11)
    copies, directory, first_grain = u64(data, 48), u64(data, 56), u64(data, 64)
    assert (copies, directory) == (21, 21 + 1 + 3 * 4)
    assert first_grain % (grain // 512) == 0
    assert len(data) == first_grain * 512
    for begin in (copies, directory):
        tables = struct.unpack("<128I", data[begin * 512 : begin * 512 + 512])
        assert tables == (begin + 1, begin + 5, begin + 9, *[0] * 125)
        assert not any(data[(begin + 1) * 512 : (begin + 13) * 512])
    text = data[512 : 21 * 512].partition(b"\0")[0]
    assert b'\nparentFileNameHint="base.vmdk"\n' in text
    assert b"\nparentCID=00001234\n" in text
    assert b"longContentID" not in text


def test_a_scratch_link_of_16_gib_is_mostly_hole(tmp_path: Path) -> None:
    path = tmp_path / "scratch.vmdk"
    with path.open("wb+", buffering=0) as file:
        write_scratch(file, capacity_bytes=16 << 30, cid=5, parent=BASE)
    status = path.stat()
    assert 2_000_000 < status.st_size < 2_200_000
    assert status.st_blocks * 512 < 100_000
