"""Damaged ext4 file systems: refused with IntegrityError, or read without any other error.

An input is a few edits of the metadata of an image that our writer made. Whatever the checker
passes must be readable to the last byte; and what it refuses must not bring a careless reader to
anything but an IntegrityError, nor to reads beyond the disk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.check import check_filesystem
from converter.ext4.filesystem import GRAIN_BYTES
from converter.ext4.geometry import MIB, Geometry
from converter.ext4.reader import Reader
from converter.ext4.walk import Walk
from converter.layer.entry import Entry, Kind
from scripts.fuzzers.disks import GrainDisk, read_grains
from scripts.fuzzers.edits import Edit, Script, interesting, mutate_script
from tests.unit.ext4.disks import file, samples

MODULES = (
    "converter.ext4.read_superblock",
    "converter.ext4.read_extents",
    "converter.ext4.read_directory",
    "converter.ext4.read_xattr",
    "converter.ext4.reader",
    "converter.ext4.walk",
    "converter.ext4.check",
    "converter.ext4.superblock",
)
_TABLE_BLOCKS = 128  # of each inode table, those that our images can have in use
SEAL = 1  # options: make counters and checksums fit what the edits say
FILE_AMPLIFICATION = 64  # of bytes read to bytes of disk, in all: a bound on work, not a measure


class Region(NamedTuple):
    """Blocks of metadata of one kind, as if they followed each other, and where words are not zero.

    Inputs name places in a region, not on the disk: a new layout must not make them worthless.
    """

    blocks: tuple[int, ...]
    words: tuple[int, ...]

    def address(self, place: int) -> int:
        """Return where on the disk byte `place` of the region is; counted around."""
        number, at = divmod(place % (len(self.blocks) * c.BLOCK_SIZE), c.BLOCK_SIZE)
        return self.blocks[number] * c.BLOCK_SIZE + at


class Original(NamedTuple):
    """A sound image: its grains, its capacity, and its metadata, each kind on its own.

    So what is rare is varied as often as what is common.
    """

    grains: dict[int, bytes | bytearray]
    capacity_bytes: int
    regions: tuple[Region, ...]


def _holed(path: bytes, segments: int) -> Entry:
    """Return a file of `segments` blocks with a hole behind each."""
    where = tuple((2 * number * c.BLOCK_SIZE, c.BLOCK_SIZE) for number in range(segments))
    data = [memoryview(number.to_bytes(4, "big") * 1024) for number in range(segments)]
    return Entry(path, Kind.FILE, size=2 * segments * c.BLOCK_SIZE, data=data, segments=where)


def _extents() -> list[Entry]:
    """Return files with extent trees of one, two and three levels."""
    return [_holed(b"leaf", 5), _holed(b"index", 341), _holed(b"deep", 1400), file(b"f", b"x")]


_RECIPES: tuple[Callable[[], GrainDisk], ...] = (
    lambda: _disk(64 * MIB, *samples()),
    lambda: _disk(
        64 * MIB, [file(b"a", b"1"), Entry(b"l", Kind.HARDLINK, target=b"a")], journal=False
    ),
    lambda: _disk(64 * MIB, _extents()),
    lambda: _disk(512 * MIB, [file(b"a/b", b"data")], [file(b"c", b"")]),
)


def _disk(capacity_bytes: int, *layers: Sequence[Entry], journal: bool = True) -> GrainDisk:
    disk = GrainDisk(capacity_bytes, journal=journal)
    for layer in layers:
        disk.apply(layer)
    return disk


@cache
def original(number: int) -> Original:
    """Return original `number`, counted around."""
    disk = _RECIPES[number]()
    geometry = disk.filesystem.geometry
    reader = Reader(disk.read, disk.capacity_bytes)
    check_filesystem(reader)
    front = [0, *range(1, 1 + geometry.descriptor_blocks), geometry.journal_start]
    for group in geometry.backup_groups:
        start = group * c.BLOCKS_PER_GROUP
        front += range(start, start + geometry.backup_used_blocks)
    bitmaps = range(1 + geometry.descriptor_blocks, geometry.hot_blocks)
    tables = [start + number for start in geometry.inode_tables for number in range(_TABLE_BLOCKS)]
    inodes = [found.inode for found in Walk(reader)]
    content = [
        extent.start + number
        for inode in inodes
        if inode.kind is not Kind.FILE
        for extent in inode.map.extents
        for number in range(extent.length)
    ]
    nodes = [node for inode in inodes for node in inode.map.nodes]
    attributes = {inode.fields.i_file_acl_lo for inode in inodes} - {0}
    kinds = (front, bitmaps, tables, content, nodes, attributes)
    regions = [_region(disk, blocks) for blocks in kinds]
    tail = [at for at in regions[2].words if at % c.INODE_SIZE >= c.INODE_XATTR_OFFSET]
    regions.append(regions[2]._replace(words=tuple(tail)))
    return Original(disk.grains, disk.capacity_bytes, tuple(regions))


def _region(disk: GrainDisk, blocks: Iterable[int]) -> Region:
    ordered = tuple(sorted(blocks))
    words = (
        number * c.BLOCK_SIZE + at
        for number, block in enumerate(ordered)
        for at in range(0, c.BLOCK_SIZE, 4)
        if disk.read(block * c.BLOCK_SIZE + at, 4) != bytes(4)
    )
    return Region(ordered, tuple(words))


def one_input(data: bytes) -> None:
    """Check, walk and read the file system that `data` describes."""
    script = Script.parse(data)
    base = original(script.original % len(_RECIPES))
    grains = dict(base.grains)
    for edit in script.edits:
        region = base.regions[edit.kind % len(base.regions)]
        if region.blocks:
            _write(grains, base.capacity_bytes, region.address(edit.place), edit.data)
    if script.options & SEAL:
        _seal(grains, base.capacity_bytes)
    done = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal done
        done += length
        assert done < FILE_AMPLIFICATION * base.capacity_bytes, "reads without an end"
        return read_grains(grains, base.capacity_bytes, offset, length)

    try:
        reader = Reader(read, base.capacity_bytes)
    except IntegrityError:
        return
    sound = False
    try:
        check_filesystem(reader)
        sound = True
    except IntegrityError:
        pass
    try:
        _read_all(reader)
    except IntegrityError:
        assert not sound, "what passed the check cannot be read"


def _read_all(reader: Reader) -> None:
    """Read everything, as a careless caller would, too."""
    walk = Walk(reader)
    for directory, name, inode in walk:
        walk.where(directory, name, inode.node)
        entry = reader.entry(inode, name)
        size = 0
        if entry.size <= reader.geometry.capacity_bytes:
            size = sum(map(len, entry.data))
        if entry.kind is Kind.FILE and entry.segments is None and size:
            assert size == entry.size


def _write(grains: dict[int, bytes | bytearray], capacity: int, offset: int, data: bytes) -> None:
    data = data[: max(0, capacity - offset)]
    while data:
        number, at = divmod(offset, GRAIN_BYTES)
        grain = grains.get(number)
        if not isinstance(grain, bytearray):
            grain = grains[number] = bytearray(grain or bytes(GRAIN_BYTES))
        part = data[: GRAIN_BYTES - at]
        grain[at : at + len(part)] = part
        offset += len(part)
        data = data[len(part) :]


# Sealing: what a reader would refuse first is made right, so that the rest is looked at.

_S_FREE_BLOCKS_COUNT_LO = 0x0C
_COUNTERS = struct.Struct("<II")  # s_free_blocks_count_lo, s_free_inodes_count


def _seal(grains: dict[int, bytes | bytearray], capacity: int) -> None:
    """Let checksums of descriptors be right and the superblock count what they count."""
    geometry = Geometry(capacity)
    starts = [0, *(group * c.BLOCKS_PER_GROUP * c.BLOCK_SIZE for group in geometry.backup_groups)]
    for start in starts:
        superblock = start or c.SUPERBLOCK_OFFSET
        uuid = read_grains(grains, capacity, superblock + 0x68, 16)
        free_blocks = free_inodes = 0
        for group in range(geometry.groups):
            at = start + c.BLOCK_SIZE + group * c.GROUP_DESC_SIZE
            descriptor = read_grains(grains, capacity, at, c.GROUP_DESC_CHECKSUM_OFFSET)
            fields = c.GROUP_DESC.unpack(descriptor)
            free_blocks += fields[3]
            free_inodes += fields[4]
            checksum = _crc16(uuid + group.to_bytes(4, "little") + descriptor)
            _write(grains, capacity, at + c.GROUP_DESC_CHECKSUM_OFFSET, checksum)
        counters = _COUNTERS.pack(free_blocks, free_inodes)
        _write(grains, capacity, superblock + _S_FREE_BLOCKS_COUNT_LO, counters)


def _crc16(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


# Variations


def mutate(data: bytes, choose: Random) -> bytes:
    """Return a variation: mostly words of metadata that get other values."""
    return mutate_script(data, choose, _new_edits)


def _new_edits(script: Script, choose: Random) -> list[Edit]:
    base = original(script.original % len(_RECIPES))
    number = choose.choice([at for at, region in enumerate(base.regions) if region.words])
    region = base.regions[number]
    at = choose.choice(region.words)
    kind = choose.randrange(8)
    if kind == 0:  # another piece of metadata in its place: inodes, entries, whole descriptors
        length = choose.choice((4, 8, 12, 32, 60, 256))
        source = choose.choice(region.words)
        at -= at % (256 if length == 256 else 4)
        source -= source % (256 if length == 256 else 4)
        return [Edit(number, at, _original_bytes(base, region, source, length))]
    if kind == 1:
        return [Edit(number, at, bytes(choose.choice((4, 12, 16, 64, 256))))]
    at += choose.choice((0, 0, 1, 2, 2, 3, 4))
    width = choose.choice((1, 2, 2, 4))
    source = choose.choice(region.words) if kind == 2 else at
    near = int.from_bytes(_original_bytes(base, region, source, width), "little")
    if kind == 2:
        return [Edit(number, at, near.to_bytes(width, "little"))]
    return [Edit(number, at, interesting(choose, width, near))]


def _original_bytes(base: Original, region: Region, place: int, length: int) -> bytes:
    offset = region.address(place)
    length = min(length, base.capacity_bytes - offset)
    return read_grains(base.grains, base.capacity_bytes, offset, length)


def seeds() -> list[bytes]:
    """Return the originals themselves, both with and without a seal."""
    return [
        Script(number, options).dump() for number in range(len(_RECIPES)) for options in (0, SEAL)
    ]
