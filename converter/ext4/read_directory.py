"""Directory blocks read back: whole blocks in, names out. Owns what a directory may say.

Format: Documentation/filesystems/ext4, directory.rst. Lists are linear, as `directory` writes them;
a hashed index would be refused with the flag of its inode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.layer.entry import Kind

_HEAD = c.DIR_ENTRY.size
_KINDS = {int(kind): kind for kind in Kind if kind <= Kind.SYMLINK}


class Name(NamedTuple):
    """One entry: a name, the inode that it stands for, and the kind that the directory tells."""

    name: bytes
    node: int
    kind: Kind


def read_directory(blocks: Iterable[bytes], node: int, parent: int) -> list[Name]:
    """Return the names in directory `node`, below `parent`, without dots, in byte order.

    `blocks` are its blocks of 4 KiB. Raises IntegrityError for entries that do not fill their block
    exactly, wrong dots, and names that are doubled or that no path could have.
    """
    entries = (entry for block in blocks for entry in _read_block(block))
    dots = [next(entries, None), next(entries, None)]
    if dots != [(b".", node, c.EXT4_FT_DIR), (b"..", parent, c.EXT4_FT_DIR)]:
        raise IntegrityError(
            "The directory does not begin with itself and its parent.",
            expected=f"'.' as inode {node} and '..' as inode {parent}",
        )
    found: dict[bytes, Name] = {}
    for name, child, file_type in entries:
        if not child:
            continue  # a deleted entry: room for a new one
        kind = _KINDS.get(file_type)
        if kind is None:
            raise IntegrityError(f"The directory gives {name!r} the file type {file_type}.")
        if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
            raise IntegrityError(f"The directory has an entry with the name {name!r}.")
        if name in found:
            raise IntegrityError(f"The directory has the name {name!r} twice.")
        found[name] = Name(name, child, kind)
    return [found[name] for name in sorted(found)]


def _read_block(block: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, inode, file type) of each entry; inode 0 for one that is not in use."""
    at = 0
    while at < c.BLOCK_SIZE:
        if at + _HEAD > c.BLOCK_SIZE:
            raise IntegrityError(f"The directory's last entry ends at byte {at} of its block.")
        node, length, name_length, file_type = c.DIR_ENTRY.unpack_from(block, at)
        needed = _HEAD + name_length
        if length < needed or length % 4 or at + length > c.BLOCK_SIZE:
            raise IntegrityError(f"The directory has an entry with a rec_len of {length}.")
        if node or name_length:
            yield block[at + _HEAD : at + needed], node, file_type
        at += length
