"""A disk in memory that takes what the ext4 writer yields, for targets that read it back."""

from __future__ import annotations

from collections.abc import Iterable

from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import GRAIN_BYTES, FileSystem
from converter.ext4.geometry import Geometry
from converter.ext4.superblock import Identity
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry
from converter.rootfs.apply import apply_layer

IDENTITY = Identity(bytes(range(16)), bytes(range(16, 32)))
_ZERO_GRAIN = bytes(GRAIN_BYTES)


class GrainDisk:
    """Grains of 64 KiB by number; what was never written is zero."""

    def __init__(self, capacity_bytes: int, *, journal: bool = True) -> None:
        self.capacity_bytes = capacity_bytes
        self.grains: dict[int, bytes | bytearray] = {}
        self.filesystem = FileSystem.create(Geometry(capacity_bytes, journal=journal), IDENTITY)
        self._first = True

    def apply(self, layer: Iterable[Entry]) -> None:
        """Write a layer as a link of its own. Raises SaltflatError as a conversion does."""
        fs = self.filesystem
        for block, data in write_layer(
            fs, apply_layer(fs.tree, layer, fs.allocator), first=self._first
        ):
            self._write(block * c.BLOCK_SIZE, memoryview(data))
        self._first = False

    def _write(self, offset: int, data: memoryview) -> None:
        first, odd_bytes = divmod(offset, GRAIN_BYTES)
        assert not odd_bytes
        assert not len(data) % GRAIN_BYTES
        assert offset + len(data) <= self.capacity_bytes
        for number in range(len(data) // GRAIN_BYTES):
            grain = data[number * GRAIN_BYTES : (number + 1) * GRAIN_BYTES]
            self.grains[first + number] = bytes(grain)

    def read(self, offset: int, length: int) -> bytes:
        """Read as a chain does: exactly `length` bytes, or ValueError."""
        return read_grains(self.grains, self.capacity_bytes, offset, length)


def read_grains(
    grains: dict[int, bytes | bytearray], capacity_bytes: int, offset: int, length: int
) -> bytes:
    """Read from grains by number as a chain does: exactly `length` bytes, or ValueError."""
    if not 0 <= offset <= offset + length <= capacity_bytes:
        raise ValueError(f"{length} bytes at {offset}: not within {capacity_bytes}")
    number, begin = divmod(offset, GRAIN_BYTES)
    if begin + length <= GRAIN_BYTES:
        return bytes(grains.get(number, _ZERO_GRAIN)[begin : begin + length])
    last = (offset + length - 1) // GRAIN_BYTES
    joined = b"".join(grains.get(each, _ZERO_GRAIN) for each in range(number, last + 1))
    return joined[begin : begin + length]
