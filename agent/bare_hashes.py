"""What the agent uses of `hashlib` and `hmac`, as a guest can afford it.

The standard modules look for OpenSSL, which a boot image has not, and load each hash that there is:
5 ms of each start. To a type checker everything here is theirs, and where a Python keeps its hashes
elsewhere it is.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING

__all__ = ["blake2b", "compare_digest", "hmac_sha256"]

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
    from hmac import compare_digest
else:
    try:
        from _blake2 import blake2b
        from _operator import _compare_digest as compare_digest

        try:
            from _sha2 import sha256  # since 3.12
        except ImportError:
            from _sha256 import sha256
    except ImportError:
        from hashlib import blake2b, sha256
        from hmac import compare_digest

_BLOCK_BYTES = 64  # of SHA-256
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """Return the 32 bytes of HMAC-SHA-256 (RFC 2104), for a key of at most 64 bytes."""
    if len(key) > _BLOCK_BYTES:
        raise ValueError("a key of {} bytes".format(len(key)))
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(block.translate(_INNER) + text).digest()
    return sha256(block.translate(_OUTER) + inner).digest()
