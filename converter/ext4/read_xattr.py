"""Extended attributes read back, from the inode and from a block. Pure: bytes in, pairs out.

Bounded by what one inode and one block hold. Whether hashes and order are right is a question of
`check`, which encodes the result again. Format: Documentation/filesystems/ext4, attributes.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.errors import IntegrityError
from converter.ext4 import c_ext4 as c
from converter.ext4.xattr import Attributes

_PREFIXES = {index: prefix for prefix, index in c.XATTR_PREFIXES}
_ACL_INDEXES = frozenset({2, 3})


def decode_xattrs(in_inode: bytes, block: bytes) -> Attributes:
    """Return sorted pairs of full name and value; the inverse of `encode_xattrs`.

    `in_inode` are the inode's bytes from INODE_XATTR_OFFSET on, `block` the attribute block; b""
    for none. Raises IntegrityError for entries or values that are out of bounds or doubled.
    """
    found: list[tuple[bytes, bytes]] = []
    if in_inode.strip(b"\0"):
        (magic,) = c.XATTR_IBODY_HEADER.unpack_from(in_inode)
        _check_magic(magic)
        found += _read_list(in_inode, c.XATTR_IBODY_HEADER.size, base=c.XATTR_IBODY_HEADER.size)
    if block:
        magic, references, blocks, _, _ = c.XATTR_HEADER.unpack_from(block)
        _check_magic(magic)
        if (references, blocks) != (1, 1):
            raise IntegrityError("Its attribute block is shared or not one block.")
        found += _read_list(block, c.XATTR_HEADER.size, base=0)
    names = {name for name, _ in found}
    if len(names) != len(found):
        raise IntegrityError("It has an extended attribute twice.")
    return tuple(sorted(found))


def _check_magic(magic: int) -> None:
    if magic != c.EXT4_XATTR_MAGIC:
        raise IntegrityError(
            f"Its extended attributes have the magic number {magic:#010x}.",
            expected=f"{c.EXT4_XATTR_MAGIC:#010x}",
        )


def _read_list(data: bytes, at: int, *, base: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the attributes whose entries begin at `at`; values are at offsets from `base`."""
    while data[at : at + 4] != bytes(4):
        if at + c.XATTR_ENTRY.size > len(data):
            raise IntegrityError("Its list of extended attributes has no end.")
        length, index, offset, inode, size, _ = c.XATTR_ENTRY.unpack_from(data, at)
        at += c.XATTR_ENTRY.size
        name = data[at : at + length]
        at += length + -length % 4
        offset += base
        if inode or at > len(data) or (size and not at <= offset <= offset + size <= len(data)):
            raise IntegrityError(f"Its extended attribute {name!r} is out of bounds.")
        prefix = _PREFIXES.get(index)
        if prefix is None:
            raise IntegrityError(f"Its extended attribute {name!r} has the name index {index}.")
        value = data[offset : offset + size] if size else b""
        yield prefix + name, _decode_acl(value) if index in _ACL_INDEXES else value


def _decode_acl(stored: bytes) -> bytes:
    """Turn an ACL as ext4 stores it (version 1) into its xattr form (version 2)."""
    if stored[: c.ACL_VERSION.size] != c.ACL_VERSION.pack(c.EXT4_ACL_VERSION):
        raise IntegrityError("Its POSIX ACL is of an unknown version.")
    entries = [c.ACL_VERSION.pack(c.POSIX_ACL_XATTR_VERSION)]
    at = c.ACL_VERSION.size
    while at < len(stored):
        if at + c.EXT4_ACL_ENTRY_SHORT.size > len(stored):
            raise IntegrityError("Its POSIX ACL is cut short.")
        tag, permissions = c.EXT4_ACL_ENTRY_SHORT.unpack_from(stored, at)
        identity = c.ACL_UNDEFINED_ID
        if tag in {c.ACL_USER, c.ACL_GROUP}:
            if at + c.EXT4_ACL_ENTRY.size > len(stored):
                raise IntegrityError("Its POSIX ACL is cut short.")
            identity = c.EXT4_ACL_ENTRY.unpack_from(stored, at)[2]
            at += c.EXT4_ACL_ENTRY.size
        else:
            at += c.EXT4_ACL_ENTRY_SHORT.size
        entries.append(c.POSIX_ACL_XATTR_ENTRY.pack(tag, permissions, identity))
    return b"".join(entries)
