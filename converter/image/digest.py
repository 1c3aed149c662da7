"""Content digests. Owns their grammar and which algorithms we trust; does no I/O."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol, Self

# OCI image specification, descriptor.md "Registered Algorithms": the hex is lower case.
_ENCODED_LENGTH = {"sha256": 64, "sha512": 128}
_LOWER_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """The part of a hashlib object that we use."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Name bytes by their hash, `sha256:<64 hex>` or `sha512:<128 hex>`."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a digest's text form. Raises ValueError, whose text says what is wrong with it."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise ValueError("a digest has the form algorithm:hex")
        length = _ENCODED_LENGTH.get(algorithm)
        if length is None:
            raise ValueError("its algorithm is neither sha256 nor sha512")
        if len(encoded) != length or not _LOWER_HEX.fullmatch(encoded):
            raise ValueError(f"{algorithm} is followed by {length} lower case hex digits")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"
