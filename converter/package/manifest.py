"""The manifest of a package: the SHA-256 of every file of it, one a line.

DSP0243 1.1.0, section 5.1, where it is SHA1; VMware's tools and vSphere from 6.5 on read SHA256.
"""

from __future__ import annotations

from collections.abc import Iterable

ALGORITHM = "SHA256"


def encode_manifest(digests: Iterable[tuple[str, str]]) -> bytes:
    """Return the bytes for (file name, SHA-256 in hex), in the order in which they are given."""
    return "".join(f"{ALGORITHM}({name})= {digest}\n" for name, digest in digests).encode()
