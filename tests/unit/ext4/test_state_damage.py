"""States that say what cannot be: refused when they are loaded, or when what they say is used."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import zstandard

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Sequence
from converter.ext4.filesystem import INODES_PER_GRAIN, FileSystem
from converter.ext4.geometry import INODES_PER_GROUP, Geometry
from converter.ext4.state import (
    HEAD,
    MAGIC,
    MAX_SECTION_BYTES,
    MAX_SECTIONS,
    SCHEMA,
    SECTION,
    dump_state,
    load_states,
)
from converter.ext4.superblock import Identity
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer
from converter.rootfs.tree import KIND_BITS
from tests.unit.ext4.disks import file

CAPACITY = 64 << 20
ROOT = c.EXT4_ROOT_INO


def _filesystem(capacity_bytes: int = CAPACITY) -> FileSystem:
    filesystem = FileSystem.create(Geometry(capacity_bytes), Identity(bytes(16), bytes(16)))
    _write(filesystem, [file(b"d/f"), Entry(b"d/g", Kind.HARDLINK, target=b"d/f")], first=True)
    return filesystem


def _write(filesystem: FileSystem, layer: list[Entry], *, first: bool = False) -> None:
    changes = apply_layer(filesystem.tree, layer, filesystem.allocator)
    for _ in write_layer(filesystem, changes, first=first):
        pass


def _node(filesystem: FileSystem) -> int:
    """Return the inode of d/f and d/g."""
    return _names(filesystem)[b"g"] >> KIND_BITS


def _inode_byte(filesystem: FileSystem, offset: int, value: int) -> None:
    """Set a byte of the inode of d/f."""
    grain, index = divmod(_node(filesystem) - 1, INODES_PER_GRAIN)
    content = bytearray(filesystem.grains[grain])
    content[index * c.INODE_SIZE + offset] = value
    filesystem.grains[grain] = content


def _forget_inode(filesystem: FileSystem) -> None:
    filesystem.allocator.free_inode(_node(filesystem), directory=False)


def _names(filesystem: FileSystem) -> dict[bytes, int]:
    """Return the names in d."""
    (names,) = [each for each in filesystem.tree.directories.values() if b"g" in each]
    return names


def _rename(filesystem: FileSystem, name: bytes) -> None:
    names = _names(filesystem)
    names[name] = names.pop(b"f")


def _lose_names(filesystem: FileSystem) -> None:
    """Leave the inode of d/f and d/g in use without a name."""
    filesystem.tree.set_links(_node(filesystem), 1)
    _names(filesystem).clear()


def _name_twice(filesystem: FileSystem) -> None:
    """Give the directory d a second name."""
    packed = filesystem.tree.directories[ROOT][b"d"]
    filesystem.tree.bind(ROOT, b"e", packed)
    filesystem.tree.set_links(packed >> KIND_BITS, 2)


def _use_inode(filesystem: FileSystem) -> None:
    filesystem.allocator.new_node()
    filesystem.allocator.settle()


def _root_mode(filesystem: FileSystem, mode: int) -> None:
    root = filesystem.read_inode(ROOT)
    filesystem.write_inode(ROOT, root._replace(i_mode=mode), None)


def _link(filesystem: FileSystem, text: bytes) -> None:
    """Make d/f a symbolic link."""
    _names(filesystem)[b"f"] = _node(filesystem) << KIND_BITS | Kind.SYMLINK
    filesystem.tree.set_symlink(_node(filesystem), text)


def _add(counts: list[int] | dict[int, int], group: int, more: int) -> None:
    counts[group] += more


@dataclass(frozen=True)
class Case:
    """What is wrong, and words of the error that names it."""

    name: str
    damage: Callable[[FileSystem], object]
    fault: str


AT_LOADING = [
    Case("free blocks", lambda fs: _add(fs.allocator.free_blocks, 0, 1), "counts other blocks"),
    Case("directories", lambda fs: _add(fs.allocator.used_directories, 0, 1), "counts other direc"),
    Case("inodes", lambda fs: _add(fs.allocator.used_inodes, 0, -1), "counts other inodes"),
    Case("highest", lambda fs: _add(fs.allocator.highest_inode, 0, -1), "where none were ever"),
    Case(
        "counters without a bitmap",
        lambda fs: fs.allocator.highest_inode.pop(0),
        "bitmaps and counters disagree",
    ),
    Case(
        "inodes beyond the last",
        lambda fs: fs.allocator.inode_bitmaps[0].__setitem__(INODES_PER_GROUP // 8, 0xFE),
        "beyond its last",
    ),
    Case(
        "numbers in use are next",
        lambda fs: setattr(fs.allocator.others, "index", INODES_PER_GROUP // 2),
        "hands out an inode that is in use",
    ),
    Case(
        "numbers of no group are next",
        lambda fs: setattr(fs.allocator.directories, "group", 1),
        "1 is out of bounds",
    ),
    Case(
        "blocks in use are next",
        lambda fs: setattr(fs.allocator, "frontier", fs.geometry.data_start),
        "hands out blocks that are in use",
    ),
    Case(
        "blocks of metadata are next",
        lambda fs: setattr(fs.allocator, "frontier", fs.geometry.data_start - 1),
        "hands out blocks of metadata",
    ),
    Case(
        "one number for two files",
        lambda fs: setattr(fs.allocator.others, "index", INODES_PER_GROUP // 2 - 1),
        "the same inodes to directories and to other",
    ),
    Case("a free inode has a name", _forget_inode, "by its table alone"),
    Case("an inode in use without content", _use_inode, "by its bitmap or"),
    Case("an inode without a name", _lose_names, "other names than there are"),
    Case("a directory with two names", _name_twice, "a directory with two names"),
    Case("a slash in a name", lambda fs: _rename(fs, b"f/x"), "a slash or a NUL"),
    Case("a NUL in a name", lambda fs: _rename(fs, b"f\0"), "a slash or a NUL"),
    Case("a name of dots", lambda fs: _rename(fs, b".."), "empty or dots"),
    Case("an empty name", lambda fs: _rename(fs, b""), "empty or dots"),
    Case("a root that is a file", lambda fs: _root_mode(fs, c.S_IFREG), "root is no directory"),
    Case("another type", lambda fs: _inode_byte(fs, 1, 0x41), "not of the kind"),
    Case("links", lambda fs: fs.tree.set_links(_node(fs), 3), "counts other names"),
    Case("a text of no link", lambda fs: fs.tree.set_symlink(_node(fs), b"x"), "without a link"),
    Case("a NUL in a text", lambda fs: _link(fs, b"a\0b"), "none that a layer may have"),
    Case("a text of a block", lambda fs: _link(fs, b"a" * 4096), "none that a layer may have"),
    Case(
        "the journal has a name",
        lambda fs: fs.tree.bind(ROOT, b"j", c.EXT4_JOURNAL_INO << KIND_BITS | Kind.FILE),
        "a reserved inode",
    ),
    Case("the root elsewhere", lambda fs: fs.tree.parents.__setitem__(ROOT, 11), "its root is in"),
    Case(
        "a capacity that is no integer",
        lambda fs: object.__setattr__(fs.geometry, "capacity_bytes", float(CAPACITY)),
        "out of bounds",
    ),
    Case(
        "a capacity that none may have",
        lambda fs: object.__setattr__(fs.geometry, "capacity_bytes", CAPACITY + 1),
        "is not possible",
    ),
]


def test_the_undamaged_state_is_loaded() -> None:
    filesystem = _filesystem()
    assert load_states([dump_state(filesystem)]) == filesystem


@pytest.mark.parametrize("case", AT_LOADING, ids=lambda case: case.name)
def test_loading_finds(case: Case) -> None:
    filesystem = _filesystem()
    case.damage(filesystem)
    with pytest.raises(IntegrityError, match=case.fault):
        load_states([dump_state(filesystem)])


def test_loading_finds_a_group_of_both_directories_and_other_files() -> None:
    filesystem = _filesystem(512 << 20)
    filesystem.allocator.directories.group, filesystem.allocator.directories.index = 1, 8000
    with pytest.raises(IntegrityError, match="the same inodes to directories and to other"):
        load_states([dump_state(filesystem)])


def test_loading_finds_inodes_behind_those_that_are_handed_out() -> None:
    filesystem = _filesystem(512 << 20)
    allocator = filesystem.allocator
    node = 3 * INODES_PER_GROUP + 1
    allocator.others = Sequence(3, 0)
    assert allocator.new_node() == node
    allocator.settle()
    allocator.others.group, allocator.others.index = 1, 1
    with pytest.raises(IntegrityError, match="behind those that it hands out"):
        load_states([dump_state(filesystem)])


def test_a_section_takes_no_memory_before_it_has_content() -> None:
    claimed = MAX_SECTION_BYTES
    stored = zstandard.ZstdCompressor().compress(b"{}")
    data = HEAD.pack(MAGIC, SCHEMA, 1) + SECTION.pack(b"PARM", len(stored), claimed) + stored
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="another size"):
            load_states([data])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_bytes_behind_the_last_section_are_damage() -> None:
    data = dump_state(_filesystem())
    with pytest.raises(IntegrityError, match="something follows its last section"):
        load_states([data + b"x"])
    count = HEAD.unpack_from(data)[2]
    with pytest.raises(IntegrityError, match="something follows its last section"):
        load_states([HEAD.pack(MAGIC, SCHEMA, count - 1) + data[HEAD.size :]])
    with pytest.raises(IntegrityError, match=f"has {MAX_SECTIONS + 1} sections"):
        load_states([HEAD.pack(MAGIC, SCHEMA, MAX_SECTIONS + 1) + data[HEAD.size :]])


_ENTRIES, _DEPTH, _START = c.I_BLOCK_OFFSET + 3, c.I_BLOCK_OFFSET + 6, c.I_BLOCK_OFFSET + 22
IN_USE = [
    Case("more extents than room", lambda fs: _inode_byte(fs, _ENTRIES, 255), "more than it has"),
    Case("a tree without runs", lambda fs: _inode_byte(fs, _DEPTH, 1), "does not say where"),
    Case("outside the disk", lambda fs: _inode_byte(fs, _START, 255), "outside the data"),
    Case("not in use", lambda fs: _inode_byte(fs, _START - 1, 0x3F), "that are not in use"),
]


@pytest.mark.parametrize("case", IN_USE, ids=lambda case: case.name)
def test_removing_a_file_finds(case: Case) -> None:
    filesystem = _filesystem()
    case.damage(filesystem)
    loaded = load_states([dump_state(filesystem)])
    with pytest.raises(IntegrityError, match=case.fault):
        _write(loaded, [Entry(b"d/f", Kind.WHITEOUT), Entry(b"d/g", Kind.WHITEOUT)])


def test_a_directory_that_counts_no_blocks_gets_new_attributes() -> None:
    filesystem = _filesystem()
    _write(filesystem, [Entry(b"x", Kind.DIRECTORY, xattrs=((b"user.a", b"v" * 900),))])
    node = filesystem.tree.directories[ROOT][b"x"] >> KIND_BITS
    good = filesystem.read_inode(node)
    filesystem.write_inode(node, good._replace(i_blocks_lo=0), None)
    loaded = load_states([dump_state(filesystem)])
    _write(loaded, [Entry(b"x", Kind.DIRECTORY)])
    assert loaded.read_inode(node).blocks == good.blocks - 1
