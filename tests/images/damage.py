"""A bundle to be damaged: its disk's bytes at will, its record made to fit again afterwards.

What bundle.json says of sizes and digests is the first thing that a check holds against the files.
Whoever damages on purpose corrects it, so that the checks behind have to find the rest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converter.ext4 import c_ext4 as c
from converter.ext4.geometry import INODES_PER_GROUP
from converter.ext4.reader import Reader, StoredInode
from converter.ext4.walk import Walk
from converter.vmdk.chain import open_chain
from converter.vmdk.reader import Kind


class DamagedBundle:
    """A copy of a sound bundle and the places of things in it."""

    def __init__(self, sound: Path, folder: Path) -> None:
        """Copy `sound` to `folder`, which must not exist; the copies are writable."""
        shutil.copytree(sound, folder, copy_function=shutil.copyfile)
        self.folder = folder
        self.record: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
        self.disks = [folder / link["file"] for link in self.record["links"]]
        with open_chain(self.disks[-1]) as chain:
            reader = Reader(chain.read, chain.capacity_bytes)
            self.geometry = reader.geometry
            self.inodes = _inodes(reader)

    # Files

    def change_file(self, name: str, change: Callable[[bytearray], None]) -> None:
        """Change the bytes of a file of the bundle."""
        content = bytearray((self.folder / name).read_bytes())
        change(content)
        (self.folder / name).write_bytes(content)

    def change_link(self, index: int, offset: int, data: bytes) -> None:
        """Overwrite bytes of a link's file; `index` counts from the base, or from the top."""
        with open(self.disks[index], "r+b") as file:
            file.seek(offset)
            file.write(data)

    def write_record(self) -> None:
        """Store what `record` says now."""
        (self.folder / "bundle.json").write_text(json.dumps(self.record))

    def seal(self) -> None:
        """Let bundle.json say of the files what they are."""
        for link, disk in zip(self.record["links"], self.disks, strict=True):
            content = disk.read_bytes()
            link["size"] = len(content)
            link["sha256"] = hashlib.sha256(content).hexdigest()
        self.write_record()

    # The disk

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes of the disk."""
        with open_chain(self.disks[-1]) as chain:
            return chain.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of the disk in the topmost link that has them."""
        with open_chain(self.disks[-1]) as chain:
            for index in reversed(range(len(chain.links))):
                (piece,) = chain.links[index].pieces(offset, len(data))
                if piece.kind is Kind.DATA:
                    break
            else:
                raise AssertionError(f"no link has byte {offset}")
        self.change_link(index, piece.position, data)

    def flip(self, offset: int) -> None:
        """Invert a byte of the disk."""
        self.write(offset, bytes([self.read(offset, 1)[0] ^ 0xFF]))

    def inode_at(self, path: bytes) -> int:
        """Return the offset of a path's inode on the disk."""
        group, index = divmod(self.inodes[path].node - 1, INODES_PER_GROUP)
        return self.geometry.inode_tables[group] * c.BLOCK_SIZE + index * c.INODE_SIZE

    def block_of(self, path: bytes) -> int:
        """Return the offset of the first block of a path's content on the disk."""
        return self.inodes[path].map.extents[0].start * c.BLOCK_SIZE

    def entry_at(self, path: bytes) -> int:
        """Return the offset of a path's directory entry on the disk."""
        folder, _, name = path.rpartition(b"/")
        start = self.block_of(folder)
        block = self.read(start, c.BLOCK_SIZE)
        at = 0
        while at < c.BLOCK_SIZE:
            _, reach, length, _ = c.DIR_ENTRY.unpack_from(block, at)
            if block[at + c.DIR_ENTRY.size : at + c.DIR_ENTRY.size + length] == name:
                return start + at
            at += reach
        raise AssertionError(f"{path!r} is not in the first block of its folder")


def _inodes(reader: Reader) -> dict[bytes, StoredInode]:
    walk = Walk(reader)
    return {walk.path(directory, name): inode for directory, name, inode in walk}
