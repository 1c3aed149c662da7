"""A streamOptimized disk is read as it was written, and what is none is one error."""

from __future__ import annotations

import contextlib
import io
import random
import zlib

import pytest

from converter.errors import IntegrityError
from converter.vmdk.c_vmdk import GRAIN_MARKER, METADATA_MARKER, SECTOR, MetadataMarker
from converter.vmdk.stream import GRAIN_BYTES, StreamWriter
from converter.vmdk.stream_reader import StreamReader

CAPACITY = 1024 * GRAIN_BYTES  # two tables
FRONT = 128 * SECTOR  # before the first grain
GRAINS = {
    0: b"a" * GRAIN_BYTES,
    3 * GRAIN_BYTES: random.Random(1).randbytes(GRAIN_BYTES),  # which deflating makes larger
    600 * GRAIN_BYTES: b"b" * GRAIN_BYTES,
}


def written() -> bytes:
    file = io.BytesIO()
    writer = StreamWriter(
        file, capacity_bytes=CAPACITY, cid=1, long_content_id="0" * 31 + "1", parent=None
    )
    for offset, data in GRAINS.items():
        writer.write(offset, data)
    writer.write(700 * GRAIN_BYTES, bytes(GRAIN_BYTES))  # zeros take no room
    writer.finish()
    return file.getvalue()


def read(data: bytes) -> dict[int, bytes]:
    return dict(StreamReader(io.BytesIO(data), "it.vmdk").grains())


def test_what_is_written_is_read() -> None:
    data = written()
    assert StreamReader(io.BytesIO(data), "it").capacity_bytes == CAPACITY
    assert read(data) == GRAINS


def changed(at: int, new: bytes) -> bytes:
    data = bytearray(written())
    data[at : at + len(new)] = new
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is cut short"),
        (written()[:-SECTOR], "it is cut short"),
        (written()[: FRONT + 20], "it is cut short"),
        (bytes(1 << 20), "no streamOptimized disk"),
        (changed(0, b"COWD"), "no streamOptimized disk"),
        (changed(8, b"\1\0\0\0"), "no streamOptimized disk"),  # flags: not compressed
        (changed(20, b"\3\0"), "its grains have 3 sectors"),
        (changed(20, b"\0\1"), "its grains have 256 sectors"),
        (changed(FRONT, GRAIN_MARKER.pack(1, 100)), "a grain is to be at sector 1"),
        (changed(FRONT, GRAIN_MARKER.pack(CAPACITY // SECTOR, 100)), "a grain is to be at sector"),
        (changed(FRONT, GRAIN_MARKER.pack(0, 1 << 30)), "is packed in 1073741824 bytes"),
        (changed(FRONT + 12, b"\0\0\0"), "is damaged"),
        (changed(FRONT + 12, zlib.compress(b"short")), "is not a grain long"),
        (changed(FRONT + 12, zlib.compress(bytes(10 * GRAIN_BYTES))), "is not a grain long"),
        (changed(FRONT, METADATA_MARKER.pack(*MetadataMarker(1, 0, 9))), "a marker of type 9"),
        (changed(FRONT, METADATA_MARKER.pack(*MetadataMarker(1 << 40, 0, 1))), "marker of type 1"),
        (changed(FRONT, METADATA_MARKER.pack(*MetadataMarker(1 << 40, 0, 2))), "it is cut short"),
    ],
)
def test_what_is_none_is_one_error(data: bytes, said: str) -> None:
    with pytest.raises(IntegrityError, match=f"is not a sound streamOptimized VMDK: .*{said}"):
        read(data)


def test_damage_anywhere_is_an_error_or_other_content() -> None:
    sound = written()
    chance = random.Random(5)
    places = [*range(100), *range(FRONT, FRONT + 100), *range(len(sound) - 3000, len(sound))]
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(chance.randint(1, 3)):
            data[chance.choice(places)] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        with contextlib.suppress(IntegrityError):
            read(bytes(data))
