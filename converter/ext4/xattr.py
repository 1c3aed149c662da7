"""Extended attributes as ext4 stores them: in the inode while they fit, then in one block.

Pure: pairs of full name and value in, bytes out. Format: Documentation/filesystems/ext4,
attributes.rst; hashes as in fs/ext4/xattr.c (ext4_xattr_hash_entry, ext4_xattr_rehash).
"""

from __future__ import annotations

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.layer.paths import show

_ENTRY_SPACE_IN_INODE = c.INODE_SIZE - c.INODE_XATTR_OFFSET - c.XATTR_IBODY_HEADER.size
_END_MARK = 4  # four zero bytes end the list of entries
_ACCESS_ACL = b"system.posix_acl_access"
_DEFAULT_ACL = b"system.posix_acl_default"
_ACL_OF_MODE = (c.ACL_USER_OBJ, c.ACL_GROUP_OBJ, c.ACL_OTHER)  # the nine permission bits

Attributes = tuple[tuple[bytes, bytes], ...]


def encode_xattrs(attributes: Attributes, path: bytes) -> tuple[bytes, bytes]:
    """Return (bytes for the inode from INODE_XATTR_OFFSET on, attribute block); b"" for neither.

    An access ACL that says no more than the mode is left out, as the kernel does when it is set.
    `path` is for messages. Raises SaltflatError if a name has no ext4 form or the set is larger
    than one inode and one block hold, IntegrityError for an ACL that Linux would not take.
    """
    named = sorted(
        (index, len(name), name, value)
        for index, name, value in (
            _split(full, value, path)
            for full, value in attributes
            if not _says_nothing(full, value)
        )
    )
    inside, outside = [], []
    room = _ENTRY_SPACE_IN_INODE - _END_MARK
    for attribute in named:
        needed = _entry_size(attribute[2]) + _padded(len(attribute[3]))
        if needed <= room:
            room -= needed
            inside.append(attribute)
        else:
            outside.append(attribute)
    in_inode = _encode_list(inside, _ENTRY_SPACE_IN_INODE, base=0, hashed=False)[0]
    if inside:
        in_inode = c.XATTR_IBODY_HEADER.pack(c.EXT4_XATTR_MAGIC) + in_inode
    else:
        in_inode = b""
    if not outside:
        return in_inode, b""
    size = sum(_entry_size(name) + _padded(len(value)) for _, _, name, value in outside)
    space = c.BLOCK_SIZE - c.XATTR_HEADER.size
    if size + _END_MARK > space:
        raise SaltflatError(
            f"member {show(path)}: Its extended attributes need {size} bytes.",
            expected=f"at most {space - _END_MARK}, what one block holds",
        )
    entries, hashes = _encode_list(outside, space, base=c.XATTR_HEADER.size, hashed=True)
    block_hash = 0
    for entry_hash in hashes:
        if not entry_hash:
            block_hash = 0
            break
        block_hash = (block_hash << 16 ^ block_hash >> 16 ^ entry_hash) & 0xFFFFFFFF
    return in_inode, c.XATTR_HEADER.pack(c.EXT4_XATTR_MAGIC, 1, 1, block_hash, 0) + entries


def _encode_list(
    attributes: list[tuple[int, int, bytes, bytes]], space: int, *, base: int, hashed: bool
) -> tuple[bytes, list[int]]:
    """Lay entries out from the front of `space` bytes and values from its end.

    Offsets count from `base` bytes before the space. Only a block's entries carry hashes.
    """
    data = bytearray(space)
    hashes = []
    at, value_at = 0, space
    for index, length, name, value in attributes:
        value_at -= _padded(len(value))
        data[value_at : value_at + len(value)] = value
        entry_hash = _hash(name, value) if hashed else 0
        hashes.append(entry_hash)
        offset = base + value_at if value else 0
        c.XATTR_ENTRY.pack_into(data, at, length, index, offset, 0, len(value), entry_hash)
        data[at + c.XATTR_ENTRY.size : at + c.XATTR_ENTRY.size + length] = name
        at += _entry_size(name)
    return bytes(data), hashes


def _split(full: bytes, value: bytes, path: bytes) -> tuple[int, bytes, bytes]:
    for prefix, index in c.XATTR_PREFIXES:
        if full.startswith(prefix):
            name = full[len(prefix) :]
            if index in {2, 3}:
                if not name:
                    return index, b"", _encode_acl(value, path)
            elif name and len(name) <= 255:
                return index, name, value
    raise SaltflatError(
        f"member {show(path)}: It has the extended attribute {full[:300]!r}, "
        "which ext4 cannot store.",
        expected="user.*, trusted.*, security.*, system.posix_acl_access or _default",
    )


def _encode_acl(value: bytes, path: bytes) -> bytes:
    """Turn an ACL's xattr form (version 2, entries with an id) into ext4's (version 1)."""
    entries = _acl_entries(value)
    if entries is None or not _is_valid(entries):
        raise IntegrityError(
            f"member {show(path)}: It has a malformed POSIX ACL.",
            expected="the entries that Linux takes, in its order (acl(5))",
        )
    packed = [c.ACL_VERSION.pack(c.EXT4_ACL_VERSION)]
    for tag, permissions, identity in entries:
        if tag in {c.ACL_USER, c.ACL_GROUP}:
            packed.append(c.EXT4_ACL_ENTRY.pack(tag, permissions, identity))
        else:
            packed.append(c.EXT4_ACL_ENTRY_SHORT.pack(tag, permissions))
    return b"".join(packed)


def _acl_entries(value: bytes) -> list[tuple[int, int, int]] | None:
    """Return the entries (tag, permissions, id) of an ACL's xattr form, None if it is none."""
    if value[: c.ACL_VERSION.size] != c.ACL_VERSION.pack(c.POSIX_ACL_XATTR_VERSION):
        return None
    body = value[c.ACL_VERSION.size :]
    if len(body) % c.POSIX_ACL_XATTR_ENTRY.size:
        return None
    return list(c.POSIX_ACL_XATTR_ENTRY.iter_unpack(body))


def _is_valid(entries: list[tuple[int, int, int]]) -> bool:
    """Tell whether the kernel would take it (posix_acl_valid): one it does not know bars a file."""
    tags = [tag for tag, _, _ in entries]
    named = c.ACL_USER in tags or c.ACL_GROUP in tags
    return (
        tags == sorted(tags)
        and set(tags) <= {*_ACL_OF_MODE, c.ACL_USER, c.ACL_GROUP, c.ACL_MASK}
        and all(tags.count(tag) == 1 for tag in _ACL_OF_MODE)
        and named <= tags.count(c.ACL_MASK) <= 1
        and all(permissions <= c.ACL_PERMISSIONS for _, permissions, _ in entries)
        and all(
            identity != c.ACL_UNDEFINED_ID
            for tag, _, identity in entries
            if tag in {c.ACL_USER, c.ACL_GROUP}
        )
    )


def _says_nothing(full: bytes, value: bytes) -> bool:
    """Tell whether it is an ACL that the kernel would not keep: empty, or no more than the mode."""
    if full not in {_ACCESS_ACL, _DEFAULT_ACL}:
        return False
    entries = _acl_entries(value)
    if entries is None:
        return False
    access = full == _ACCESS_ACL
    return not entries or (access and _is_valid(entries) and len(entries) == len(_ACL_OF_MODE))


def _hash(name: bytes, value: bytes) -> int:
    result = 0
    for byte in name:
        result = (result << 5 ^ result >> 27 ^ byte) & 0xFFFFFFFF
    padded = value + bytes(-len(value) % 4)
    for at in range(0, len(padded), 4):
        word = int.from_bytes(padded[at : at + 4], "little")
        result = (result << 16 ^ result >> 16 ^ word) & 0xFFFFFFFF
    return result


def _padded(size: int) -> int:
    return size + -size % 4


def _entry_size(name: bytes) -> int:
    return c.XATTR_ENTRY.size + _padded(len(name))
