"""The stored form of a `FileSystem`: what a child link needs of its parent. Pure: bytes both ways.

A state holds what its link changed; the states of a chain, read from the lowest up, make the whole.
So a small layer's state is small, and it is written in the time of what it holds. The format is
documented in docs/formats.md ("Link state"). It is never pickle, and parsed as hostile input: every
length is checked against what is there, every number against its bounds, and whatever is wrong is
an IntegrityError. Little-endian. After the fixed head come sections, each compressed with zstd.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from struct import Struct

import zstandard

from converter.errors import IntegrityError, SaltflatError, UsageError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Allocator, Sequence
from converter.ext4.filesystem import GRAIN_BYTES, GRAINS_PER_GROUP, FileSystem
from converter.ext4.geometry import INODES_PER_GROUP, MAX_CAPACITY, Geometry
from converter.ext4.state_counters import check_counters
from converter.ext4.state_tree import (
    check_placements,
    check_tree,
    dump_links,
    dump_names,
    load_links,
    load_names,
)
from converter.ext4.superblock import Identity
from converter.rootfs.tree import Journal, Tree

MAGIC = b"SALTSTAT"
SCHEMA = 2
MAX_SECTION_BYTES = 1 << 31
MAX_SECTIONS = 64
_PIECE_BYTES = 1 << 20
HEAD = Struct("<8sII")  # magic, schema, number of sections
SECTION = Struct("<4sQQ")  # name, bytes as stored, bytes when decompressed

_PARAMETERS = b"PARM"
_BITMAPS = b"BMAP"
_INODES = b"ITAB"
_DROPPED = b"GONE"
_NAMES = b"DIRS"
_LINKS = b"LINK"
_RUNS = b"RUNS"

_BITMAP = Struct("<BI")  # 0 block bitmap or 1 inode bitmap, group; then 4096 bytes
_GRAIN = Struct("<I")  # number over all groups' tables; then 256 inodes
_INODE = Struct("<I")
_SPILLED = Struct("<II")  # inode, number of runs
_RUN = Struct("<II")  # first block, length


def dump_state(filesystem: FileSystem, *, parent: str = "") -> bytes:
    """Return what changed since the last call, or since the file system is new.

    `parent` is the id of the link whose state this one goes on, "" for the lowest. The same changes
    give the same bytes with the same zstd library. From now on, changes are counted anew.
    """
    tree = filesystem.tree
    sections = [
        (_PARAMETERS, _dump_parameters(filesystem, parent)),
        (_BITMAPS, b"".join(_dump_bitmaps(filesystem.allocator))),
        (_INODES, b"".join(_dump_grains(filesystem))),
        (_DROPPED, b"".join(_INODE.pack(node) for node in sorted(tree.journal.dropped))),
        (_NAMES, b"".join(dump_names(filesystem))),
        (_LINKS, b"".join(dump_links(tree))),
        (_RUNS, b"".join(_dump_runs(filesystem))),
    ]
    compressor = zstandard.ZstdCompressor(level=3, write_content_size=False)
    parts = [HEAD.pack(MAGIC, SCHEMA, len(sections))]
    for name, content in sections:
        stored = compressor.compress(content)
        parts += [SECTION.pack(name, len(stored), len(content)), stored]
    _count_anew(filesystem)
    return b"".join(parts)


def load_states(states: Iterable[bytes]) -> FileSystem:
    """Return the file system that a chain's states, the lowest first, describe together.

    Raises IntegrityError for anything else, SaltflatError for a schema newer than this program.
    """
    filesystem: FileSystem | None = None
    with _damage_named():
        for data in states:
            filesystem = _load(data, filesystem)
        if filesystem is None:
            raise ValueError("there is none")
        check_counters(filesystem)
        check_tree(filesystem)
        check_placements(filesystem)
    _count_anew(filesystem)
    return filesystem


def add_state(below: FileSystem | None, data: bytes) -> FileSystem:
    """Return the file system that one more state of a chain makes of the one `below`.

    None stands for nothing, below the lowest. `below` is changed, and of no use after an error.
    Raises as `load_states`.
    """
    with _damage_named():
        filesystem = _load(data, below)
        check_counters(filesystem)
        check_tree(filesystem)
        check_placements(filesystem)
    _count_anew(filesystem)
    return filesystem


def same_content(one: bytes, other: bytes) -> bool:
    """Tell whether two states say the same, whichever zstd library compressed them.

    Raises as `load_states`.
    """
    with _damage_named():
        return _contents(one) == _contents(other)


def _contents(data: bytes) -> dict[bytes, bytes]:
    return {name: section.whole() for name, section in _sections(data).items()}


@contextmanager
def _damage_named() -> Iterator[None]:
    """Turn whatever a damaged state makes of its reader into an error that says so."""
    try:
        yield
    except (
        struct.error,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise IntegrityError(
            f"The state of a link is damaged: {error}.",
            hint="Delete the link from the store; converting again makes it anew.",
        ) from error


def _count_anew(filesystem: FileSystem) -> None:
    filesystem.dirty_grains.clear()
    filesystem.allocator.dirty_block_bitmaps.clear()
    filesystem.allocator.dirty_inode_bitmaps.clear()
    filesystem.tree.journal = Journal()
    for placement in filesystem.placements.values():
        placement.stored = True


def _load(data: bytes, parent: FileSystem | None) -> FileSystem:
    """Apply one state to its parent's file system, or begin one."""
    sections = _sections(data)
    parameters = json.loads(sections[_PARAMETERS].whole())
    capacity_bytes = _bounded(parameters["capacity_bytes"], MAX_CAPACITY)
    try:
        geometry = Geometry(capacity_bytes, journal=parameters["journal"] is True)
    except UsageError as error:
        raise ValueError(error.what) from error
    identity = Identity(
        bytes.fromhex(parameters["uuid"]),
        bytes.fromhex(parameters["hash_seed"]),
        parameters["label"].encode("ascii"),
    )
    if len(identity.uuid) != 16 or len(identity.hash_seed) != 16 or len(identity.label) > 16:
        raise ValueError("its identity has a wrong length")
    if bool(parameters["parent"]) != bool(parent):
        raise ValueError("it stands at a wrong place of its chain")
    if parent is None:
        tree = Tree(c.EXT4_ROOT_INO)
        filesystem = FileSystem(geometry, identity, _allocator(parameters, geometry), tree)
    else:
        if (parent.geometry, parent.identity) != (geometry, identity):
            raise ValueError("it belongs to another chain")
        filesystem = parent
        allocator = _allocator(parameters, geometry)
        allocator.block_bitmaps = parent.allocator.block_bitmaps
        allocator.inode_bitmaps = parent.allocator.inode_bitmaps
        filesystem.allocator = allocator
    _load_bitmaps(sections[_BITMAPS].whole(), filesystem.allocator)
    _load_grains(sections[_INODES], filesystem)
    for (node,) in _INODE.iter_unpack(sections[_DROPPED].whole()):
        del filesystem.tree.directories[node], filesystem.tree.parents[node]
        filesystem.placements.pop(node, None)
    load_names(sections[_NAMES].whole(), filesystem)
    load_links(sections[_LINKS].whole(), filesystem.tree)
    filesystem.spilled = dict(_load_runs(sections[_RUNS].whole(), geometry))
    return filesystem


@dataclass(frozen=True, slots=True)
class _Section:
    """A section as it is stored: unfolded only while it is read, and never beyond `size` bytes."""

    stored: bytes
    size: int
    unfolder: zstandard.ZstdDecompressor

    def whole(self) -> bytes:
        """Return the content. Raises ValueError."""
        return b"".join(self.pieces(_PIECE_BYTES))

    def pieces(self, *sizes: int) -> Iterator[bytes]:
        """Yield the content in pieces of `sizes` in turn; the last may be shorter.

        Raises ValueError unless they are `size` bytes in all.
        """
        left = self.size
        try:
            with self.unfolder.stream_reader(self.stored) as reader:
                for wanted in cycle(sizes):
                    # A read takes memory for all that it is asked for, and `size` is but a claim.
                    piece = reader.read(min(wanted, left + 1))
                    left -= len(piece)
                    if not piece or left < 0:
                        break
                    yield piece
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if left:
            raise ValueError("a section has another size than it says")


def _sections(data: bytes) -> dict[bytes, _Section]:
    magic, schema, count = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it does not begin with the state's magic")
    if schema < SCHEMA:
        raise ValueError(f"it has the older schema {schema}")
    if schema > SCHEMA:
        raise SaltflatError(
            f"The state of a link has schema {schema}; this program reads up to {SCHEMA}.",
            hint="Use the newer saltflat that wrote this store, or another --store.",
        )
    sections: dict[bytes, _Section] = {}
    unfolder = zstandard.ZstdDecompressor()  # one for all: its buffers are megabytes
    at = HEAD.size
    if count > MAX_SECTIONS:
        raise ValueError(f"it says that it has {count} sections")
    for _ in range(count):
        name, stored, size = SECTION.unpack_from(data, at)
        at += SECTION.size
        if size > MAX_SECTION_BYTES or at + stored > len(data):
            raise ValueError(f"section {name!r} is longer than the file")
        sections[name] = _Section(data[at : at + stored], size, unfolder)
        at += stored
    if at != len(data):
        raise ValueError("something follows its last section")
    return sections


# Parameters, counters and bitmaps


def _dump_parameters(filesystem: FileSystem, parent: str) -> bytes:
    allocator = filesystem.allocator
    return json.dumps(
        {
            "parent": parent,
            "capacity_bytes": filesystem.geometry.capacity_bytes,
            "journal": filesystem.geometry.journal,
            "uuid": filesystem.identity.uuid.hex(),
            "hash_seed": filesystem.identity.hash_seed.hex(),
            "label": filesystem.identity.label.decode("ascii"),
            "frontier": allocator.frontier,
            "directories": [allocator.directories.group, allocator.directories.index],
            "others": [allocator.others.group, allocator.others.index],
            "free_blocks": allocator.free_blocks,
            "used_directories": sorted(allocator.used_directories.items()),
            "used_inodes": sorted(allocator.used_inodes.items()),
            "highest_inode": sorted(allocator.highest_inode.items()),
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def _dump_bitmaps(allocator: Allocator) -> Iterator[bytes]:
    for kind, bitmaps, dirty in (
        (0, allocator.block_bitmaps, allocator.dirty_block_bitmaps),
        (1, allocator.inode_bitmaps, allocator.dirty_inode_bitmaps),
    ):
        for group in sorted(dirty):
            yield _BITMAP.pack(kind, group)
            yield bytes(bitmaps[group])


def _allocator(parameters: dict[str, object], geometry: Geometry) -> Allocator:
    groups = geometry.groups
    free = parameters["free_blocks"]
    if not isinstance(free, list) or len(free) != groups:
        raise ValueError("it counts another number of groups than the disk has")
    return Allocator(
        geometry,
        _bounded(parameters["frontier"], geometry.blocks),
        Sequence(*_pair(parameters["directories"], groups)),
        Sequence(*_pair(parameters["others"], groups)),
        free_blocks=[_bounded(count, c.BLOCKS_PER_GROUP) for count in free],
        used_directories=dict(_pairs(parameters["used_directories"], groups)),
        used_inodes=dict(_pairs(parameters["used_inodes"], groups)),
        highest_inode=dict(_pairs(parameters["highest_inode"], groups)),
    )


def _load_bitmaps(data: bytes, allocator: Allocator) -> None:
    at = 0
    while at < len(data):
        kind, group = _BITMAP.unpack_from(data, at)
        at += _BITMAP.size
        bitmap = bytearray(data[at : at + c.BLOCK_SIZE])
        at += c.BLOCK_SIZE
        if kind > 1 or group >= allocator.geometry.groups or len(bitmap) != c.BLOCK_SIZE:
            raise ValueError("a bitmap is out of bounds")
        (allocator.inode_bitmaps if kind else allocator.block_bitmaps)[group] = bitmap


def _bounded(value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"{value!r} is out of bounds")
    return value


def _pair(value: object, groups: int) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is no pair")
    return _bounded(value[0], groups - 1), _bounded(value[1], INODES_PER_GROUP)


def _pairs(value: object, groups: int) -> Iterator[tuple[int, int]]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    for item in value:
        yield _pair(item, groups)


# Inode tables and the runs of large files


def _dump_grains(filesystem: FileSystem) -> Iterator[bytes]:
    for grain in sorted(filesystem.dirty_grains):
        yield _GRAIN.pack(grain)
        yield filesystem.inode_grain(grain)[1]


def _load_grains(section: _Section, filesystem: FileSystem) -> None:
    """Enter each grain as it is stored; those between the ones that are in use are missing."""
    limit = filesystem.geometry.groups * GRAINS_PER_GROUP
    pieces = section.pieces(_GRAIN.size, GRAIN_BYTES)
    for head in pieces:
        (grain,) = _GRAIN.unpack(head)
        content = next(pieces, b"")
        if grain >= limit or len(content) != GRAIN_BYTES:
            raise ValueError("a grain of inodes is out of bounds")
        filesystem.grains[grain] = content


def _dump_runs(filesystem: FileSystem) -> Iterator[bytes]:
    for node, runs in sorted(filesystem.spilled.items()):
        yield _SPILLED.pack(node, len(runs))
        for run in runs:
            yield _RUN.pack(*run)


def _load_runs(data: bytes, geometry: Geometry) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    at = 0
    while at < len(data):
        node, count = _SPILLED.unpack_from(data, at)
        at += _SPILLED.size
        runs = []
        for _ in range(count):
            start, length = _RUN.unpack_from(data, at)
            at += _RUN.size
            if start + length > geometry.blocks:
                raise ValueError("a file lies outside the disk")
            runs.append((start, length))
        yield node, runs
