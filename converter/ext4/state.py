"""The stored form of a `FileSystem`: what a child link needs of its parent. Pure: bytes both ways.

A documented binary format (docs/formats.md, "Link state"), never pickle, and parsed as hostile
input: every length is checked against what is there, every number against its bounds, and whatever
is wrong is an IntegrityError. Little-endian. After the fixed head come sections, each of them
compressed with zstd; a reader refuses a schema that it does not know.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from struct import Struct

import zstandard

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Allocator, Sequence
from converter.ext4.filesystem import GRAIN_BYTES, FileSystem
from converter.ext4.geometry import INODES_PER_GROUP, Geometry
from converter.ext4.superblock import Identity
from converter.layer.entry import Kind
from converter.rootfs.tree import KIND_BITS, KIND_MASK, Tree

MAGIC = b"SALTSTAT"
SCHEMA = 1
MAX_SECTION_BYTES = 1 << 31
HEAD = Struct("<8sII")  # magic, schema, number of sections
SECTION = Struct("<4sQQ")  # name, bytes as stored, bytes when decompressed

_PARAMETERS, _BITMAPS, _INODES, _NAMES, _LINKS, _RUNS = (
    b"PARM",
    b"BMAP",
    b"ITAB",
    b"DIRS",
    b"LINK",
    b"RUNS",
)
_BITMAP = Struct("<BI")  # 0 block bitmap or 1 inode bitmap, group; then 4096 bytes
_TABLE = Struct("<II")  # group, number of grains; then the grains
_DIRECTORY = Struct("<III")  # inode, parent, number of names
_NAME = Struct("<QB")  # inode << 3 | kind, length; then the name
_LINK = Struct("<IIH")  # inode, number of names, length of a symlink's text; then the text
_SPILLED = Struct("<II")  # inode, number of runs
_RUN = Struct("<II")  # first block, length


def dump_state(filesystem: FileSystem) -> bytes:
    """Return the stored form. The same state gives the same bytes with the same zstd library."""
    sections = [
        (_PARAMETERS, _dump_parameters(filesystem)),
        (_BITMAPS, b"".join(_dump_bitmaps(filesystem.allocator))),
        (_INODES, b"".join(_dump_tables(filesystem.tables))),
        (_NAMES, b"".join(_dump_names(filesystem.tree))),
        (_LINKS, b"".join(_dump_links(filesystem.tree))),
        (_RUNS, b"".join(_dump_runs(filesystem))),
    ]
    compressor = zstandard.ZstdCompressor(level=3, write_content_size=False)
    parts = [HEAD.pack(MAGIC, SCHEMA, len(sections))]
    for name, content in sections:
        stored = compressor.compress(content)
        parts += [SECTION.pack(name, len(stored), len(content)), stored]
    return b"".join(parts)


def load_state(data: bytes) -> FileSystem:
    """Return the file system that `dump_state` stored.

    Raises IntegrityError for anything else, SaltflatError for a schema newer than this program.
    """
    try:
        return _load(data)
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


def _load(data: bytes) -> FileSystem:
    magic, schema, count = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it does not begin with the state's magic")
    if schema > SCHEMA:
        raise SaltflatError(
            f"The state of a link has schema {schema}; this program reads up to {SCHEMA}.",
            hint="Use the newer saltflat that wrote this store, or another --store.",
        )
    sections: dict[bytes, bytes] = {}
    at = HEAD.size
    for _ in range(min(count, 64)):
        name, stored, size = SECTION.unpack_from(data, at)
        at += SECTION.size
        if size > MAX_SECTION_BYTES or at + stored > len(data):
            raise ValueError(f"section {name!r} is longer than the file")
        sections[name] = _decompress(data[at : at + stored], size)
        at += stored
    parameters = json.loads(sections[_PARAMETERS])
    geometry = Geometry(parameters["capacity_bytes"], journal=parameters["journal"] is True)
    identity = Identity(
        bytes.fromhex(parameters["uuid"]),
        bytes.fromhex(parameters["hash_seed"]),
        parameters["label"].encode("ascii"),
    )
    if len(identity.uuid) != 16 or len(identity.hash_seed) != 16 or len(identity.label) > 16:
        raise ValueError("its identity has a wrong length")
    tables = dict(_load_tables(sections[_INODES], geometry))
    tree = _load_tree(sections[_NAMES], sections[_LINKS], geometry)
    filesystem = FileSystem(
        geometry, identity, _load_allocator(parameters, sections[_BITMAPS], geometry), tree, tables
    )
    _load_runs(sections[_RUNS], filesystem)
    _check_inodes(filesystem)
    return filesystem


def _decompress(stored: bytes, size: int) -> bytes:
    """Return exactly `size` bytes, whatever the compressed data would unfold to."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(stored) as reader:
            content = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(content) != size:
        raise ValueError("a section has another size than it says")
    return content


# Parameters, counters and bitmaps


def _dump_parameters(filesystem: FileSystem) -> bytes:
    allocator = filesystem.allocator
    return json.dumps(
        {
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
    for kind, bitmaps in ((0, allocator.block_bitmaps), (1, allocator.inode_bitmaps)):
        for group, bitmap in sorted(bitmaps.items()):
            yield _BITMAP.pack(kind, group)
            yield bytes(bitmap)


def _load_allocator(parameters: dict[str, object], bitmaps: bytes, geometry: Geometry) -> Allocator:
    groups = geometry.groups
    free = parameters["free_blocks"]
    if not isinstance(free, list) or len(free) != groups:
        raise ValueError("it counts another number of groups than the disk has")
    allocator = Allocator(
        geometry,
        _bounded(parameters["frontier"], geometry.blocks),
        Sequence(*_pair(parameters["directories"], groups)),
        Sequence(*_pair(parameters["others"], groups)),
        free_blocks=[_bounded(count, c.BLOCKS_PER_GROUP) for count in free],
        used_directories=dict(_pairs(parameters["used_directories"], groups)),
        used_inodes=dict(_pairs(parameters["used_inodes"], groups)),
        highest_inode=dict(_pairs(parameters["highest_inode"], groups)),
    )
    at = 0
    while at < len(bitmaps):
        kind, group = _BITMAP.unpack_from(bitmaps, at)
        at += _BITMAP.size
        bitmap = bytearray(bitmaps[at : at + c.BLOCK_SIZE])
        at += c.BLOCK_SIZE
        if kind > 1 or group >= groups or len(bitmap) != c.BLOCK_SIZE:
            raise ValueError("a bitmap is out of bounds")
        (allocator.inode_bitmaps if kind else allocator.block_bitmaps)[group] = bitmap
    if set(allocator.inode_bitmaps) != set(allocator.used_inodes):
        raise ValueError("its inode bitmaps and counters disagree")
    return allocator


def _bounded(value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"{value!r} is out of bounds")
    return value


def _pair(value: object, groups: int) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is no pair")
    return _bounded(value[0], groups), _bounded(value[1], INODES_PER_GROUP)


def _pairs(value: object, groups: int) -> Iterator[tuple[int, int]]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    for item in value:
        yield _pair(item, groups - 1)


# Inode tables and the runs of large files


def _dump_tables(tables: dict[int, bytearray]) -> Iterator[bytes]:
    for group, table in sorted(tables.items()):
        yield _TABLE.pack(group, len(table) // GRAIN_BYTES)
        yield bytes(table)


def _load_tables(data: bytes, geometry: Geometry) -> Iterator[tuple[int, bytearray]]:
    at = 0
    while at < len(data):
        group, grains = _TABLE.unpack_from(data, at)
        at += _TABLE.size
        size = grains * GRAIN_BYTES
        if group >= geometry.groups or size > INODES_PER_GROUP * c.INODE_SIZE:
            raise ValueError("an inode table is out of bounds")
        if at + size > len(data):
            raise ValueError("an inode table is cut short")
        yield group, bytearray(data[at : at + size])
        at += size


def _dump_runs(filesystem: FileSystem) -> Iterator[bytes]:
    for node, runs in sorted(filesystem.spilled.items()):
        yield _SPILLED.pack(node, len(runs))
        for run in runs:
            yield _RUN.pack(*run)


def _load_runs(data: bytes, filesystem: FileSystem) -> None:
    at = 0
    while at < len(data):
        node, count = _SPILLED.unpack_from(data, at)
        at += _SPILLED.size
        runs = []
        for _ in range(count):
            start, length = _RUN.unpack_from(data, at)
            at += _RUN.size
            if start + length > filesystem.geometry.blocks:
                raise ValueError("a file lies outside the disk")
            runs.append((start, length))
        filesystem.spilled[node] = runs


def _check_inodes(filesystem: FileSystem) -> None:
    """See that every node of the tree has an inode to read."""
    limits = {group: len(table) // c.INODE_SIZE for group, table in filesystem.tables.items()}
    nodes = {c.EXT4_ROOT_INO, *filesystem.tree.directories}
    for names in filesystem.tree.directories.values():
        nodes.update(packed >> KIND_BITS for packed in names.values())
    for node in nodes:
        group, index = divmod(node - 1, INODES_PER_GROUP)
        if index >= limits.get(group, 0):
            raise ValueError(f"inode {node} is in the tree but in no table")


# The tree


def _dump_names(tree: Tree) -> Iterator[bytes]:
    for node, names in sorted(tree.directories.items()):
        yield _DIRECTORY.pack(node, tree.parents[node], len(names))
        for name, packed in sorted(names.items()):
            yield _NAME.pack(packed, len(name))
            yield name


def _dump_links(tree: Tree) -> Iterator[bytes]:
    for node in sorted(tree.links.keys() | tree.symlinks.keys()):
        text = tree.symlinks.get(node, b"")
        yield _LINK.pack(node, tree.links.get(node, 1), len(text))
        yield text


def _load_tree(names_data: bytes, links_data: bytes, geometry: Geometry) -> Tree:
    limit = geometry.groups * INODES_PER_GROUP
    tree = Tree.empty(c.EXT4_ROOT_INO)
    at = 0
    kinds: dict[int, Kind] = {}
    while at < len(names_data):
        node, parent, count = _DIRECTORY.unpack_from(names_data, at)
        at += _DIRECTORY.size
        names: dict[bytes, int] = {}
        for _ in range(count):
            packed, length = _NAME.unpack_from(names_data, at)
            at += _NAME.size
            name = names_data[at : at + length]
            at += length
            kind = Kind(packed & KIND_MASK)
            child = packed >> KIND_BITS
            if not 0 < child <= limit or len(name) != length or not _is_name(name):
                raise ValueError(f"the name {name!r} is out of bounds")
            if kinds.setdefault(child, kind) != kind:
                raise ValueError(f"inode {child} is of two kinds")
            names[name] = packed
        tree.directories[node] = names
        tree.parents[node] = parent
    _check_directories(tree, kinds)
    at = 0
    while at < len(links_data):
        node, links, length = _LINK.unpack_from(links_data, at)
        at += _LINK.size
        text = links_data[at : at + length]
        at += length
        if len(text) != length or node not in kinds or links > c.EXT4_LINK_MAX:
            raise ValueError(f"the links of inode {node} are out of bounds")
        if links > 1:
            tree.links[node] = links
        if text:
            tree.symlinks[node] = text
    for node, kind in kinds.items():
        if kind == Kind.SYMLINK and node not in tree.symlinks:
            raise ValueError(f"the symbolic link {node} has no text")
    return tree


def _is_name(name: bytes) -> bool:
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


def _check_directories(tree: Tree, kinds: dict[int, Kind]) -> None:
    """See that the directories form one tree below the root."""
    pending = [tree.root]
    reached = {tree.root}
    while pending:
        directory = pending.pop()
        for packed in tree.directories[directory].values():
            if packed & KIND_MASK == Kind.DIRECTORY:
                child = packed >> KIND_BITS
                if child in reached or tree.parents[child] != directory:
                    raise ValueError(f"directory {child} has two parents")
                reached.add(child)
                pending.append(child)
    if len(reached) != len(tree.directories) or tree.root in kinds:
        raise ValueError("its directories are not one tree")
