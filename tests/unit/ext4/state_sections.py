"""A link's state taken apart into its sections, and put together again, as damage needs it."""

from __future__ import annotations

from collections.abc import Iterable

import zstandard

from converter.ext4 import state

Sections = list[tuple[bytes, bytes]]  # name and content, in the file's order


def split(data: bytes) -> Sections:
    """Return the sections of a state that is sound."""
    _, _, count = state.HEAD.unpack_from(data)
    at, found = state.HEAD.size, []
    for _ in range(count):
        name, stored, size = state.SECTION.unpack_from(data, at)
        at += state.SECTION.size
        content = zstandard.ZstdDecompressor().decompressobj().decompress(data[at : at + stored])
        assert len(content) == size
        found.append((name, content))
        at += stored
    return found


def join(sections: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a state of these sections, whatever they hold."""
    compressor = zstandard.ZstdCompressor(level=1)
    kept = list(sections)
    parts = [state.HEAD.pack(state.MAGIC, state.SCHEMA, len(kept))]
    for name, content in kept:
        stored = compressor.compress(content)
        parts += [state.SECTION.pack(name, len(stored), len(content)), stored]
    return b"".join(parts)
