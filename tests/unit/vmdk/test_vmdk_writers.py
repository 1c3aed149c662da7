"""The rules of the writers of disks: what each takes, what it leaves out, and the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.vmdk import compression
from converter.vmdk.c_cowd import COWD_HEADER, COWDisk_Header
from converter.vmdk.c_vmdk import SPARSE_EXTENT_HEADER, SparseExtentHeader
from converter.vmdk.compression import DEFAULT, GRAINS_PER_BATCH, Codec, Compressor
from converter.vmdk.cowd_writer import CowdWriter, smallest_grain_bytes
from converter.vmdk.descriptor import ParentRef, parse
from converter.vmdk.flat_writer import FlatWriter
from converter.vmdk.sparse import LinkWriter
from converter.vmdk.stream import StreamWriter
from converter.vmdk.writing import DiskWriter, LinkSummary
from tests.unit.vmdk.kinds import K64, KINDS, Kind, random_changes, write_links

CAPACITY = 40 * K64
PARENT = ParentRef(7, "base.vmdk")


def stream(file: io.BytesIO, parent: ParentRef | None = None, **options: object) -> StreamWriter:
    return StreamWriter(
        file,
        capacity_bytes=CAPACITY,
        cid=1,
        long_content_id=f"{1:032x}",
        parent=parent,
        **options,  # type: ignore[arg-type]  # whatever it takes
    )


def sparse(file: io.BytesIO) -> LinkWriter:
    return LinkWriter(
        file, capacity_bytes=CAPACITY, cid=1, long_content_id=f"{1:032x}", parent=None
    )


WRITERS: dict[str, Callable[[io.BytesIO], DiskWriter]] = {
    "sparse": sparse,
    "footer": stream,
    "front": lambda file: stream(file, directory_in_front=True),
    "flat": lambda file: FlatWriter(file, capacity_bytes=CAPACITY),
    "COWD": lambda file: CowdWriter(file, capacity_bytes=CAPACITY, grain_bytes=4096),
}
writers = pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS)


@writers
def test_pieces_are_whole_grains_of_the_disk(make: Callable[[io.BytesIO], DiskWriter]) -> None:
    writer = make(io.BytesIO())
    grain = writer.grain_bytes
    for offset, length in ((1, grain), (0, grain - 1), (CAPACITY, grain), (0, CAPACITY + grain)):
        with pytest.raises(ValueError, match=f"{length} bytes at {offset}"):
            writer.write(offset, bytes(length))


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "sparse"])
def test_pieces_ascend(name: str) -> None:
    writer = WRITERS[name](io.BytesIO())
    writer.write(2 * K64, b"x" * K64)
    with pytest.raises(ValueError, match="not ascending"):
        writer.write(K64, b"x" * K64)
    with pytest.raises(ValueError, match="not ascending"):
        writer.write(2 * K64, b"x" * K64)


@writers
def test_how_pieces_are_cut_and_reused_changes_nothing(
    make: Callable[[io.BytesIO], DiskWriter],
) -> None:
    """A caller may fill its buffer anew as soon as a call returns."""
    content = random.Random(1).randbytes(39 * K64)  # up to the end: a BytesIO has no holes
    whole, parts = io.BytesIO(), io.BytesIO()
    writer = make(whole)
    writer.write(K64, content)
    summary = writer.finish()
    writer = make(parts)
    buffer = bytearray(K64)
    for offset in range(0, len(content), K64):
        buffer[:] = content[offset : offset + K64]
        writer.write(K64 + offset, buffer)
        buffer[:] = b"?" * K64
    assert writer.finish() == summary
    assert parts.getvalue() == whole.getvalue()
    assert summary.size_bytes == len(whole.getvalue())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_same_disk_gives_the_same_bytes(kind: Kind, tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        write_links(folder, [(kind, random_changes(random.Random(5), 18 << 20))], 18 << 20)
        hasher = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            hasher.update(path.read_bytes())
        digests.add(hasher.hexdigest())
    assert len(digests) == 1


def codecs() -> list[Codec]:
    found = [Codec("isal", 2), Codec("zlib", 1), Codec("zlib", 9)]
    return [codec for codec in found if codec.is_available]


@pytest.mark.parametrize("codec", codecs(), ids=str)
@pytest.mark.parametrize("in_front", [False, True], ids=["footer", "front"])
def test_threads_change_no_byte(codec: Codec, in_front: bool) -> None:
    dice = random.Random(2)
    pieces = [
        (number * K64, dice.choice((dice.randbytes(K64), bytes(K64), b"ab" * (K64 // 2))))
        for number in range(40)
    ]
    outputs = set()
    for threads in (1, 2, 5):
        file = io.BytesIO()
        with Compressor(codec, threads=threads) as compressor:
            writer = stream(file, PARENT, compressor=compressor, directory_in_front=in_front)
            for offset, data in pieces:
                writer.write(offset, data)
            summary = writer.finish()
        assert summary.zero_grains == sum(not any(data) for _, data in pieces)
        outputs.add(file.getvalue())
    assert len(outputs) == 1
    assert not [thread for thread in threading.enumerate() if "deflate" in thread.name]


def test_what_waits_for_threads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow they are: the writer waits for the first before it hands out too many."""
    begun = finished = most = 0
    begin = Compressor.begin

    def counted(self: Compressor, grains: list[bytes]) -> Callable[[], list[bytes]]:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - finished)
        result = begin(self, grains)

        def wait() -> list[bytes]:
            nonlocal finished
            finished += 1
            return result()

        return wait

    monkeypatch.setattr(Compressor, "begin", counted)
    with Compressor(Codec("zlib", 1), threads=2) as compressor:
        writer = StreamWriter(
            io.BytesIO(),
            capacity_bytes=20 * GRAINS_PER_BATCH * K64,
            cid=1,
            long_content_id=f"{1:032x}",
            compressor=compressor,
        )
        for offset in range(0, 20 * GRAINS_PER_BATCH * K64, K64):
            writer.write(offset, b"x" * K64)
        writer.finish()
        assert begun == finished == 20
        assert 2 <= most <= compressor.batches_max


def test_an_error_of_a_thread_is_the_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Codec, data: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Codec, "deflated", fail)
    with Compressor(threads=2) as compressor:
        writer = stream(io.BytesIO(), compressor=compressor)
        writer.write(0, b"x" * K64)
        with pytest.raises(MemoryError):
            writer.finish()


def test_codecs_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, level in (("zlib", 0), ("zlib", 10), ("isal", 4), ("lz4", 1)):
        with pytest.raises(ValueError, match=library):
            Codec(library, level)
    monkeypatch.setattr(compression, "isal_zlib", None)
    with pytest.raises(ValueError, match="isal-2"):
        Compressor(Codec("isal", 2))
    with pytest.raises(ValueError, match="0 threads"):
        Compressor(DEFAULT, threads=0)


def test_a_directory_in_front_is_in_the_header_and_complete(tmp_path: Path) -> None:
    file = io.BytesIO()
    writer = stream(file, directory_in_front=True)
    writer.write(K64, b"x" * K64)
    assert not any(file.getvalue()[:512])  # until it is whole it is no VMDK
    assert writer.finish() == LinkSummary(1, 0, len(file.getvalue()))
    header = SparseExtentHeader._make(SPARSE_EXTENT_HEADER.unpack_from(file.getvalue()))
    assert (header.version, header.gdOffset, header.overHead) == (3, 21, 128)
    assert file.getvalue()[21 * 512 :][:4] == (22).to_bytes(4, "little")
    assert not any(file.getvalue()[-512:])  # the end of the stream


def test_a_flat_disk_is_a_hole_where_it_is_zeros(tmp_path: Path) -> None:
    path = tmp_path / "flat"
    with path.open("xb", buffering=0) as file:
        writer = FlatWriter(file, capacity_bytes=1 << 30)
        writer.write(0, bytes(1 << 20))
        writer.write(1 << 29, bytes(4096) + b"x" * 4096 + bytes(8192))
        assert writer.finish() == LinkSummary(1, 0, 1 << 30)
    status = path.stat()
    assert status.st_size == 1 << 30
    assert status.st_blocks * 512 <= 64 << 10
    with path.open("rb") as file:
        assert os.pread(file.fileno(), 16384, 1 << 29) == bytes(4096) + b"x" * 4096 + bytes(8192)


def test_cowd_says_how_long_it_is() -> None:
    file = io.BytesIO()
    writer = CowdWriter(file, capacity_bytes=CAPACITY, grain_bytes=512)
    writer.write(0, bytes(1024))
    writer.write(4095 * 512, b"x" * 1024)
    assert writer.finish() == LinkSummary(4, 0, len(file.getvalue()))
    header = COWDisk_Header._make(COWD_HEADER.unpack_from(file.getvalue()))
    assert header.freeSector * 512 == len(file.getvalue()) == (5 + 2 * 32 + 4) * 512
    assert (header.numSectors, header.grainSize, header.numGDEntries) == (CAPACITY // 512, 1, 2)


@pytest.mark.parametrize("has_parent", [False, True])
def test_cowd_writes_zeros_where_they_hide_something(has_parent: bool) -> None:
    file = io.BytesIO()
    writer = CowdWriter(file, capacity_bytes=CAPACITY, grain_bytes=4096, has_parent=has_parent)
    writer.write(0, bytes(8192))
    assert writer.finish().grains == (2 if has_parent else 0)


@pytest.mark.parametrize(
    ("capacity", "grain"), [(K64, 0), (K64, 1000), (K64, 3 * 512), (K64, 2 * K64), (4096, 8192)]
)
def test_cowd_refuses_sizes_that_the_format_lacks(capacity: int, grain: int) -> None:
    with pytest.raises(ValueError, match=f"{grain}"):
        CowdWriter(io.BytesIO(), capacity_bytes=capacity, grain_bytes=grain)
    with pytest.raises(ValueError, match="not below 2 TiB"):
        CowdWriter(io.BytesIO(), capacity_bytes=2 << 40, grain_bytes=512)
    with pytest.raises(ValueError, match="capacity of 513"):
        FlatWriter(io.BytesIO(), capacity_bytes=513)


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [(0, 512)],
        [(number * (1 << 20), 4096) for number in range(20)],
        [(number * (1 << 20) + 3 * 512, 512) for number in range(400)],
        [(0, 8 << 20)],
        [(0, 40960), (45056, 512), (1 << 24, 3 << 20), ((2 << 20) * 512 - 512, 1024)],
    ],
    ids=["nothing", "a sector", "20 blocks", "400 sectors", "one run", "mixed"],
)
def test_the_grain_of_a_cowd_disk_is_the_one_that_makes_it_smallest(
    ranges: list[tuple[int, int]],
) -> None:
    """Against the files themselves, of each grain size."""
    sizes = {}
    for grain in (512 << shift for shift in range(8)):
        file = io.BytesIO()
        writer = CowdWriter(file, capacity_bytes=2 << 30, grain_bytes=grain)
        touched = {
            number
            for offset, length in ranges
            for number in range(offset // grain, (offset + length - 1) // grain + 1)
        }
        for number in sorted(touched):
            writer.write(number * grain, b"x" * grain)
        # The directory is not compared: its few sectors follow from the capacity.
        sectors = writer.finish().size_bytes // 512
        header = COWDisk_Header._make(COWD_HEADER.unpack_from(file.getvalue()))
        sizes[grain] = sectors - -(-header.numGDEntries // 128)
    assert smallest_grain_bytes(ranges) == min(sizes, key=lambda grain: (sizes[grain], -grain))


def test_descriptors_of_their_own_files_say_what_qemu_wants(tmp_path: Path) -> None:
    wanted = {
        "flat": ("monolithicFlat", "FLAT", "link-0-flat.vmdk", 0),
        "vmfs": ("vmfs", "VMFS", "link-0-flat.vmdk", None),
        "COWD, 8 sectors": ("vmfsSparse", "VMFSSPARSE", "link-0-delta.vmdk", None),
    }
    for kind in KINDS:
        if kind.name not in wanted:
            continue
        folder = tmp_path / kind.name
        folder.mkdir()
        [(path, _)] = write_links(folder, [(kind, ((0, b"x" * 512),))], CAPACITY)
        found = parse(path.read_bytes(), "x")
        (extent,) = found.extents
        assert wanted.pop(kind.name) == (
            found.create_type,
            extent.kind,
            extent.file_name,
            extent.offset,
        )
        assert found.long_content_id == f"{found.cid:032x}"
    assert not wanted
