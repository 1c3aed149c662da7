"""A sink for downloads, for tests of what arrives."""

from __future__ import annotations


class Memory:
    """A sink that keeps what it gets."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    @property
    def position(self) -> int:
        return len(self.content)

    def write(self, chunk: bytes) -> None:
        self.content += chunk
