"""Directory blocks: linear lists of names. Pure.

Format: Documentation/filesystems/ext4, directory.rst. The lists are not indexed (htree): inserting
one name would change hash-ordered blocks all over, where a linear list changes few. The guest's
kernel indexes what it writes itself.
"""

from __future__ import annotations

from converter.ext4 import c_ext4 as c
from converter.rootfs.tree import KIND_BITS, KIND_MASK

_HEAD = c.DIR_ENTRY.size


def encode_directory(node: int, parent: int, names: dict[bytes, int]) -> bytes:
    """Return the blocks of directory `node`, whole blocks of 4 KiB.

    `names` maps a name to its packed inode number and kind (see `converter.rootfs.tree`); they are
    written in byte order, so the result does not depend on the dictionary's.
    """
    pack = c.DIR_ENTRY.pack
    parts: list[bytes] = [
        pack(node, 12, 1, c.EXT4_FT_DIR),
        b".\0\0\0",
        pack(parent, 12, 2, c.EXT4_FT_DIR),
        b"..\0\0",
    ]
    used = 24
    last_head, last_length = 2, 12  # where the block's last entry stands, and its rec_len
    for name in sorted(names):
        packed = names[name]
        length = _HEAD + len(name) + (-len(name) & 3)
        if used + length > c.BLOCK_SIZE:
            _stretch(parts, last_head, last_length + c.BLOCK_SIZE - used)
            parts.append(bytes(c.BLOCK_SIZE - used))
            used = 0
        last_head, last_length = len(parts), length
        parts.append(pack(packed >> KIND_BITS, length, len(name), packed & KIND_MASK))
        parts.append(name + b"\0\0\0"[: -len(name) & 3])
        used += length
    _stretch(parts, last_head, last_length + c.BLOCK_SIZE - used)
    parts.append(bytes(c.BLOCK_SIZE - used))
    return b"".join(parts)


def _stretch(parts: list[bytes], head: int, length: int) -> None:
    """Let the entry whose head is `parts[head]` reach to the end of its block."""
    inode, _, name_length, file_type = c.DIR_ENTRY.unpack(parts[head])
    parts[head] = c.DIR_ENTRY.pack(inode, length, name_length, file_type)
