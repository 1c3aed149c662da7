"""Every prefix of random chains, written to a raw disk, under e2fsck's eyes.

e2fsck's exit code alone is not enough: with -n it answers some questions "no" and still exits 0.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.errors import SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import GRAIN_BYTES, FileSystem
from converter.ext4.geometry import ALIGNMENT_BLOCKS, INODES_PER_GROUP, Geometry
from converter.ext4.reader import Reader
from converter.ext4.state import dump_state, load_states
from converter.ext4.superblock import Identity
from converter.ext4.walk import Walk
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer

pytestmark = pytest.mark.integration

MIB = 1 << 20
IDENTITY = Identity(bytes(range(16)), bytes(range(16, 32)))


class Disk:
    """A file system that grows layer by layer on a sparse raw file."""

    def __init__(self, path: Path, capacity_bytes: int, *, journal: bool = True) -> None:
        self.filesystem = FileSystem.create(Geometry(capacity_bytes, journal=journal), IDENTITY)
        self.states: list[bytes] = []
        self._path = path
        self._capacity_bytes = capacity_bytes
        self._first = True
        with open(path, "wb") as file:
            file.truncate(capacity_bytes)

    def apply(self, layer: list[Entry]) -> int:
        """Write a layer; return the bytes written."""
        fs = self.filesystem
        written = 0
        grains: set[int] = set()
        with open(self._path, "r+b") as file:
            changes = apply_layer(fs.tree, layer, fs.allocator)
            for block, data in write_layer(fs, changes, first=self._first):
                assert len(data) % GRAIN_BYTES == 0
                assert block * c.BLOCK_SIZE % GRAIN_BYTES == 0
                file.seek(block * c.BLOCK_SIZE)
                file.write(data)
                written += len(data)
                touched = range(block, block + len(data) // c.BLOCK_SIZE, ALIGNMENT_BLOCKS)
                assert grains.isdisjoint(touched), "a link has each grain once"
                grains.update(touched)
        self._first = False
        self.states.append(dump_state(fs, parent="below" if self.states else ""))
        return written

    def reload(self) -> None:
        """Go on with what a child link in a new process would have: exactly the same."""
        loaded = load_states(self.states)
        assert loaded == self.filesystem
        self.filesystem = loaded

    def check(self, e2fsck: str) -> None:
        result = subprocess.run(
            [e2fsck, "-fn", self._path], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "? no" not in result.stdout, result.stdout

    def names(self, path: bytes) -> list[bytes]:
        """Return what our reader finds in a directory of the root."""
        with open(self._path, "rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            reader = Reader(read, self._capacity_bytes)
            walk = Walk(reader)
            return sorted(
                full.partition(b"/")[2]
                for full in (walk.path(directory, name) for directory, name, _ in walk)
                if full.startswith(path + b"/")
            )


def _content(size: int) -> list[memoryview]:
    return [memoryview(b"%08d" % number * 128) for number in range(size // 1024)]


def _file(path: bytes, size_kib: int = 1, **fields: object) -> Entry:
    return Entry(path, Kind.FILE, size=size_kib * 1024, data=_content(size_kib * 1024), **fields)  # type: ignore[arg-type]  # fields pass through


@pytest.mark.parametrize("capacity_mib", [64, 65, 129, 1024, 1028, 16384, 65536])
@pytest.mark.parametrize("journal", [True, False])
def test_empty_and_small_at_every_capacity(
    tmp_path: Path, tool: Callable[[str], str], capacity_mib: int, journal: bool
) -> None:
    disk = Disk(tmp_path / "disk", capacity_mib * MIB, journal=journal)
    disk.apply([])
    disk.check(tool("e2fsck"))
    disk.apply([_file(b"a/b/c", 100), Entry(b"s", Kind.SYMLINK, target=b"t" * 100)])
    disk.check(tool("e2fsck"))


def test_files_across_group_borders_and_with_extent_leaves(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    disk = Disk(tmp_path / "disk", 4096 * MIB)
    zeros = memoryview(bytes(MIB))

    def big(mib: int) -> Iterator[memoryview]:
        return (zeros for _ in range(mib))

    disk.apply([Entry(b"big", Kind.FILE, size=900 * MIB, data=big(900)), _file(b"after")])
    disk.check(tool("e2fsck"))
    assert disk.filesystem.spilled
    disk.reload()
    disk.apply([Entry(b"big", Kind.WHITEOUT), _file(b"again", 200)])
    assert not disk.filesystem.spilled
    disk.check(tool("e2fsck"))


def test_many_directories_links_and_inode_groups(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    disk = Disk(tmp_path / "disk", 1024 * MIB)
    directories = [Entry(b"d/%05d" % number, Kind.DIRECTORY) for number in range(9000)]
    files = [_file(b"f/%05d" % number, 0) for number in range(9000)]
    links = [Entry(b"l/%05d" % number, Kind.HARDLINK, target=b"f/00000") for number in range(3000)]
    disk.apply(directories + files + links)
    disk.check(tool("e2fsck"))
    disk.reload()
    disk.apply([Entry(b"d", Kind.OPAQUE), Entry(b"f/00000", Kind.WHITEOUT)])
    disk.check(tool("e2fsck"))


def test_more_than_64999_subdirectories(tmp_path: Path, tool: Callable[[str], str]) -> None:
    disk = Disk(tmp_path / "disk", 2048 * MIB)
    disk.apply([Entry(b"d/%05d" % number, Kind.DIRECTORY) for number in range(65_010)])
    disk.check(tool("e2fsck"))


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    with pytest.raises(SaltflatError, match="64 MiB are full") as caught:
        disk.apply([_file(b"f%d" % number, 1024) for number in range(64)])
    assert "--capacity" in str(caught.value.hint)


def test_all_inodes_used_is_an_error_that_says_so(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    with pytest.raises(SaltflatError, match="inodes"):
        disk.apply([_file(b"f%d" % number, 0) for number in range(INODES_PER_GROUP)])


def test_too_many_hardlinks_are_an_error_that_says_so(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    with pytest.raises(SaltflatError, match="65001 hard links"):
        disk.apply(
            [_file(b"f")]
            + [Entry(b"l%d" % number, Kind.HARDLINK, target=b"f") for number in range(65_000)]
        )


def test_a_layer_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    disk.apply([Entry(b"d", Kind.DIRECTORY, 0o700, mtime_ns=5)])
    disk.reload()
    assert disk.apply([Entry(b"d", Kind.DIRECTORY, 0o700, mtime_ns=5)]) == 0
    assert disk.apply([Entry(b"x", Kind.WHITEOUT)]) == 0


def test_one_small_file_costs_few_grains(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 16384 * MIB)
    disk.apply([_file(b"d%d/f%d" % (number % 50, number), 3) for number in range(5000)])
    assert disk.apply([_file(b"d7/new")]) <= 4 * GRAIN_BYTES
    assert len(disk.states[0]) > 20_000
    assert len(disk.states[1]) < 5_000  # 512 inodes and two bitmaps, compressed


_PATHS = st.lists(st.sampled_from([b"a", b"b", b"c", b"n" * 255]), min_size=1, max_size=3).map(
    b"/".join
)
_ENTRIES = st.one_of(
    st.builds(_file, _PATHS, st.sampled_from([0, 1, 4, 5, 64, 300])),
    st.builds(
        _file,
        _PATHS,
        st.just(1),
        xattrs=st.sampled_from(
            [((b"user.a", b"x"),), ((b"user.b", b"y" * 300), (b"user.cc", b"")), ()]
        ),
    ),
    st.builds(lambda path: Entry(path, Kind.DIRECTORY), _PATHS),
    st.builds(lambda path: Entry(path, Kind.SYMLINK, target=b"../" + path), _PATHS),
    st.builds(lambda path: Entry(path, Kind.CHARACTER, major=5, minor=300), _PATHS),
    st.builds(lambda path: Entry(path, Kind.WHITEOUT), _PATHS),
    st.builds(lambda path: Entry(path, Kind.OPAQUE), _PATHS),
    st.builds(lambda path, target: Entry(path, Kind.HARDLINK, target=target), _PATHS, _PATHS),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(layers=st.lists(st.lists(_ENTRIES, max_size=10), min_size=1, max_size=4))
def test_random_chains_are_clean_at_every_prefix(
    tmp_path: Path, tool: Callable[[str], str], layers: list[list[Entry]]
) -> None:
    disk = Disk(tmp_path / "disk", 64 * MIB)
    for layer in layers:
        try:
            disk.apply(layer)
        except SaltflatError:
            break  # refused by rule: nothing of it counts
        disk.check(tool("e2fsck"))
        disk.reload()


_SPANS = st.lists(
    st.tuples(
        st.integers(0, 2999), st.sampled_from([1, 40, 1000]), st.sampled_from(["give", "take"])
    ),
    min_size=1,
    max_size=3,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(layers=st.lists(_SPANS, min_size=2, max_size=6), length=st.integers(10, 250))
def test_large_directories_are_clean_and_right_at_every_prefix(
    tmp_path: Path,
    tool: Callable[[str], str],
    layers: list[list[tuple[int, int, str]]],
    length: int,
) -> None:
    disk = Disk(tmp_path / "disk", 256 * MIB)
    disk.apply(
        [Entry((b"d/%06d" % number).ljust(length), Kind.FIFO) for number in range(0, 6000, 2)]
    )
    names = set(disk.names(b"d"))
    assert len(names) == 3000
    for spans in layers:
        layer = []
        for first, count, what in spans:
            for number in range(first, first + count):
                path = (b"d/%06d" % number).ljust(length)
                if what == "take":
                    layer.append(Entry(path, Kind.WHITEOUT))
                else:
                    layer.append(Entry(path, Kind.FIFO))
        given_here = {entry.path[2:] for entry in layer if entry.kind is Kind.FIFO}
        names -= {entry.path[2:] for entry in layer if entry.kind is Kind.WHITEOUT}
        names |= given_here  # a whiteout spares what its own layer brings
        disk.apply(layer)
        disk.check(tool("e2fsck"))
        assert set(disk.names(b"d")) == names
        disk.reload()
