"""Directory blocks: linear lists of names. Pure.

Format: Documentation/filesystems/ext4, directory.rst. The lists are not indexed (htree): inserting
one name would change hash-ordered blocks all over, where a linear list changes few. The guest's
kernel indexes what it writes itself. Which block has which name is decided in `placement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.ext4 import c_ext4 as c
from converter.rootfs.tree import KIND_BITS, KIND_MASK

_HEAD = c.DIR_ENTRY.size
DOTS_BYTES = 24  # "." and ".." at the start of the first block


def entry_bytes(name: bytes) -> int:
    """Return how much of a block the entry of `name` takes."""
    return _HEAD + len(name) + (-len(name) & 3)


def pack_names(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the names of each block of a directory that is written anew: byte order, no gaps.

    The order is part of the format: same names, same blocks.
    """
    block: list[bytes] = []
    used = DOTS_BYTES
    for name in sorted(names):
        length = _HEAD + len(name) + (-len(name) & 3)  # entry_bytes, called for every name
        if used + length > c.BLOCK_SIZE:
            yield block
            block, used = [], 0
        block.append(name)
        used += length
    yield block


def encode_block(block: list[bytes], names: dict[bytes, int]) -> bytes:
    """Return a block with the entries of the names in `block`, whatever is left at its end unused.

    `names` maps a name to its packed inode number and kind (see `converter.rootfs.tree`).
    """
    return _encode([], 0, block, names)


def encode_first_block(
    node: int, parent: int, block: list[bytes], names: dict[bytes, int]
) -> bytes:
    """Return the first block of directory `node`, with the entries of itself and its parent."""
    dots = [
        c.DIR_ENTRY.pack(node, 12, 1, c.EXT4_FT_DIR),
        b".\0\0\0",
        c.DIR_ENTRY.pack(parent, 12, 2, c.EXT4_FT_DIR),
        b"..\0\0",
    ]
    return _encode(dots, DOTS_BYTES, block, names)


def _encode(parts: list[bytes], used: int, block: list[bytes], names: dict[bytes, int]) -> bytes:
    pack = c.DIR_ENTRY.pack
    for name in block:
        packed = names[name]
        length = _HEAD + len(name) + (-len(name) & 3)
        parts.append(pack(packed >> KIND_BITS, length, len(name), packed & KIND_MASK))
        parts.append(name + b"\0\0\0"[: -len(name) & 3])
        used += length
    rest = c.BLOCK_SIZE - used
    if not parts:  # an empty block is one entry that is not in use
        return pack(0, rest, 0, 0) + bytes(rest - _HEAD)
    # The last entry reaches to the end of its block.
    inode, length, name_length, file_type = c.DIR_ENTRY.unpack(parts[-2])
    parts[-2] = pack(inode, length + rest, name_length, file_type)
    parts.append(bytes(rest))
    return b"".join(parts)
