"""The content ids of a disk whose content follows from an identity, a sha256 in hex digits."""

from __future__ import annotations

from converter.vmdk.c_vmdk import (
    CID_DIGITS,
    CID_LONG_ID_ONLY,
    CID_NOPARENT,
    LONG_CONTENT_ID_DIGITS,
)

_RESERVED_CIDS = frozenset({0, CID_LONG_ID_ONLY, CID_NOPARENT})  # 0: readers take it for none


def content_id(identity: str) -> int:
    """Return the content id (CID): the identity's first 32 bits that may be one."""
    for at in range(0, len(identity), CID_DIGITS):
        cid = int(identity[at : at + CID_DIGITS], 16)
        if cid not in _RESERVED_CIDS:
            return cid
    raise ValueError(identity)


def long_content_id(identity: str) -> str:
    """Return ddb.longContentID: 32 hex digits that end with the CID."""
    return f"{identity[CID_DIGITS:LONG_CONTENT_ID_DIGITS]}{content_id(identity):08x}"
