"""File systems in memory, made by the writer under test's side of the fence: for reader tests."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from converter.compare import content_digest
from converter.ext4 import c_ext4 as c
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import Geometry
from converter.ext4.reader import Reader
from converter.ext4.superblock import Identity
from converter.ext4.walk import Walk
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer
from converter.rootfs.expected import ExpectedTree

CAPACITY = 64 << 20
IDENTITY = Identity(bytes(range(16)), bytes(range(16, 32)))
NOBODY = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 6, NOBODY), (2, 4, 70_000), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]
)


class MemoryDisk:
    """A small disk with a file system that grows layer by layer."""

    def __init__(self, *layers: Iterable[Entry], journal: bool = True) -> None:
        self.data = bytearray(CAPACITY)
        self._fs = FileSystem.create(Geometry(CAPACITY, journal=journal), IDENTITY)
        self._first = True
        for layer in layers:
            self.apply(layer)

    def apply(self, layer: Iterable[Entry]) -> None:
        """Write a layer."""
        changes = apply_layer(self._fs.tree, layer, self._fs.allocator)
        for block, data in write_layer(self._fs, changes, first=self._first):
            self.write(block * c.BLOCK_SIZE, data)
        self._first = False

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write bytes where nobody expects them."""
        self.data[offset : offset + len(data)] = data

    def read(self, offset: int, length: int) -> bytes:
        """Read as a chain does: exactly `length` bytes, or ValueError."""
        if not 0 <= offset <= offset + length <= CAPACITY:
            raise ValueError(f"{length} bytes at {offset}")
        return bytes(self.data[offset : offset + length])

    def reader(self) -> Reader:
        """Open what is on the disk now."""
        return Reader(self.read, CAPACITY)


def paths(reader: Reader) -> dict[bytes, Entry]:
    """Return everything in a file system by path; b"" is the root."""
    walk = Walk(reader)
    found = {}
    for directory, name, inode in walk:
        path = walk.path(directory, name)
        found[path] = reader.entry(inode, path)
    return found


def expected(*layers: Iterable[Entry]) -> ExpectedTree:
    """Return the tree that `layers` make."""
    tree = ExpectedTree(content_digest)
    for layer in layers:
        tree.apply(layer)
    return tree


def file(path: bytes, content: bytes = b"content", **fields: object) -> Entry:
    """Return the entry of a regular file."""
    return Entry(path, Kind.FILE, size=len(content), data=[memoryview(content)], **fields)  # type: ignore[arg-type]  # fields pass through


def samples() -> tuple[list[Entry], list[Entry]]:
    """Return two layers that have every kind of node and of attribute, and take some away."""
    base = [
        Entry(b"", Kind.DIRECTORY, mode=0o711, uid=5, gid=6, mtime_ns=1_234_567_890),
        Entry(b"etc", Kind.DIRECTORY, xattrs=((b"user.folder", b"1"),)),
        file(b"etc/passwd", b"root:x:0:0\n" * 900, mode=0o640, uid=70_000, gid=4_000_000_000),
        file(b"etc/empty", b"", mode=0o4755, mtime_ns=-1),
        file(b"etc/later", b"x" * 4096, mtime_ns=4_733_510_400_000_000_001),
        file(
            b"etc/attributes",
            xattrs=((b"system.posix_acl_access", ACL), (b"user.a", b""), (b"user.big", b"v" * 900)),
        ),
        Entry(b"etc/fast", Kind.SYMLINK, mode=0o777, target=b"passwd"),
        Entry(b"etc/slow", Kind.SYMLINK, mode=0o777, target=b"t" * 60),
        Entry(b"dev/null", Kind.CHARACTER, mode=0o666, major=1, minor=3),
        Entry(b"dev/wide", Kind.BLOCK, mode=0o600, major=259, minor=70_000),
        Entry(b"dev/queue", Kind.FIFO, mode=0o600),
        Entry(b"etc/again", Kind.HARDLINK, target=b"etc/passwd"),
        *(file(b"many/name-%04d" % number, b"%d" % number) for number in range(300)),
        file(b"gone/away"),
    ]
    top = [
        Entry(b"gone", Kind.WHITEOUT),
        Entry(b"etc/third", Kind.HARDLINK, target=b"etc/passwd"),
        file(b"many/name-0007", b"changed"),
        file(b"a/b/c/d", b"deep"),
    ]
    return base, top
