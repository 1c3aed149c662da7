"""The rules of StreamWriter; what other readers make of its disks is in integration."""

from __future__ import annotations

import io
import zlib

import pytest

from converter.vmdk.c_vmdk import (
    GRAIN_MARKER,
    MARKER_EOS,
    MARKER_FOOTER,
    METADATA_MARKER,
    SECTOR,
    SPARSE_EXTENT_HEADER,
    SPARSE_GD_AT_END,
    SPARSEFLAG_MAGIC_GTE,
    GrainMarker,
    MetadataMarker,
    SparseExtentHeader,
)
from converter.vmdk.descriptor import ParentRef
from converter.vmdk.stream import GRAIN_BYTES, StreamWriter

CAPACITY = 1024 * GRAIN_BYTES  # two tables
LONG_ID = "0" * 24 + "c0de0001"


class Pipe(io.RawIOBase):
    """Takes a few bytes at each call, and cannot go back."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        taken = bytes(data)[:1000]  # type: ignore[call-overload]  # whatever buffer it is
        self.data += taken
        return len(taken)


def stream(file: io.RawIOBase, parent: ParentRef | None = None) -> StreamWriter:
    return StreamWriter(
        file,  # type: ignore[arg-type]  # a raw file takes less than it is given
        capacity_bytes=CAPACITY,
        cid=0xC0DE0001,
        long_content_id=LONG_ID,
        parent=parent,
    )


def written(*writes: tuple[int, bytes], parent: ParentRef | None = None) -> bytes:
    pipe = Pipe()
    writer = stream(pipe, parent)
    for offset, data in writes:
        writer.write(offset, data)
    assert writer.finish().size_bytes == len(pipe.data)
    return bytes(pipe.data)


def header_at(data: bytes, offset: int) -> SparseExtentHeader:
    return SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack_from(data, offset))


def test_front_and_footer_differ_in_the_directory_alone() -> None:
    data = written((0, b"a" * GRAIN_BYTES))
    front, footer = header_at(data, 0), header_at(data, len(data) - 2 * SECTOR)
    assert front.gdOffset == SPARSE_GD_AT_END
    assert footer == front._replace(gdOffset=footer.gdOffset)
    assert (front.version, front.grainSize * SECTOR) == (3, GRAIN_BYTES)
    marks = [
        MetadataMarker._make(METADATA_MARKER.unpack_from(data, len(data) - back * SECTOR))
        for back in (3, 1)
    ]
    assert marks == [MetadataMarker(1, 0, MARKER_FOOTER), MetadataMarker(0, 0, MARKER_EOS)]


def test_a_grain_stands_behind_its_marker() -> None:
    content = bytes(range(256)) * 256
    data = written((5 * GRAIN_BYTES, content))
    begin = header_at(data, 0).overHead * SECTOR
    marker = GrainMarker._make(GRAIN_MARKER.unpack_from(data, begin))
    assert marker.lba == 5 * GRAIN_BYTES // SECTOR
    packed = data[begin + GRAIN_MARKER.size :][: marker.size]
    assert zlib.decompress(packed) == content


def test_zeros_take_no_room() -> None:
    empty = written()
    assert written((0, bytes(512 * GRAIN_BYTES))) == empty
    hiding = written((0, bytes(512 * GRAIN_BYTES)), parent=ParentRef(1, "base.vmdk"))
    assert header_at(hiding, 0).flags & SPARSEFLAG_MAGIC_GTE
    assert len(hiding) == len(empty) + 5 * SECTOR  # one table and its marker


def test_how_writes_are_cut_changes_nothing() -> None:
    content = b"".join(bytes([number]) * GRAIN_BYTES for number in range(1, 9))
    at = 508 * GRAIN_BYTES  # over the end of a table
    pieces = [(at + n * GRAIN_BYTES, content[n * GRAIN_BYTES :][:GRAIN_BYTES]) for n in range(8)]
    assert written((at, content)) == written(*pieces)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(512, GRAIN_BYTES), (0, 1), (CAPACITY, GRAIN_BYTES), (0, CAPACITY + GRAIN_BYTES)],
)
def test_what_is_no_grain_of_the_disk_is_refused(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes at {offset}"):
        stream(Pipe()).write(offset, bytes(size))


def test_grains_must_ascend() -> None:
    writer = stream(Pipe())
    writer.write(GRAIN_BYTES, bytes(GRAIN_BYTES))
    with pytest.raises(ValueError, match="not ascending"):
        writer.write(GRAIN_BYTES, b"x" * GRAIN_BYTES)
