"""Which file system a chain holds: its UUID and hash seed follow from its lowest link's id."""

from __future__ import annotations

import hashlib

from converter.ext4.superblock import Identity


def identity_of(base_link_id: str) -> Identity:
    """Return the identity of every file system whose chain begins with this link."""
    uuid = bytearray(hashlib.sha256(b"uuid\0" + base_link_id.encode()).digest()[:16])
    uuid[6] = uuid[6] & 0x0F | 0x80  # RFC 9562 section 5.8: version 8, of our own making
    uuid[8] = uuid[8] & 0x3F | 0x80
    hash_seed = hashlib.sha256(b"hash seed\0" + base_link_id.encode()).digest()[:16]
    return Identity(bytes(uuid), hash_seed)
