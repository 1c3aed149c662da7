"""A link's state from a hostile store: loaded, or refused with our own error; nothing else."""

from __future__ import annotations

import contextlib
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import state
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import Geometry
from converter.ext4.superblock import Identity
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer


def _filesystem() -> FileSystem:
    filesystem = FileSystem.create(Geometry(128 << 20), Identity(bytes(16), bytes(16)))
    layer = [
        Entry(b"d/e", Kind.DIRECTORY),
        Entry(b"d/f", Kind.FILE, size=5, data=[memoryview(b"hello")]),
        Entry(b"d/g", Kind.HARDLINK, target=b"d/f"),
        Entry(b"s", Kind.SYMLINK, target=b"d/f"),
    ]
    changes = apply_layer(filesystem.tree, layer, filesystem.allocator)
    for _ in write_layer(filesystem, changes, first=True):
        pass
    return filesystem


GOOD = state.dump_state(_filesystem())


def _sections(data: bytes) -> list[tuple[bytes, bytes]]:
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


def _join(sections: list[tuple[bytes, bytes]]) -> bytes:
    parts = [state.HEAD.pack(state.MAGIC, state.SCHEMA, len(sections))]
    for name, content in sections:
        stored = zstandard.ZstdCompressor().compress(content)
        parts += [state.SECTION.pack(name, len(stored), len(content)), stored]
    return b"".join(parts)


SECTIONS = _sections(GOOD)


def test_what_was_stored_is_loaded() -> None:
    assert state.dump_state(state.load_state(GOOD)) == GOOD
    assert state.dump_state(state.load_state(_join(SECTIONS))) == GOOD


def test_newer_schemas_and_foreign_files_are_told_apart() -> None:
    newer = GOOD[:8] + struct.pack("<I", 2) + GOOD[12:]
    with pytest.raises(SaltflatError, match="schema 2") as caught:
        state.load_state(newer)
    assert not isinstance(caught.value, IntegrityError)
    with pytest.raises(IntegrityError):
        state.load_state(b"not a state at all")


def test_a_section_that_unfolds_beyond_its_size_is_not_unfolded() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    data = state.HEAD.pack(state.MAGIC, state.SCHEMA, 1)
    data += state.SECTION.pack(b"PARM", len(bomb), 100) + bomb
    with pytest.raises(IntegrityError, match="another size"):
        state.load_state(data)


def _load(data: bytes) -> None:
    with contextlib.suppress(SaltflatError):
        state.load_state(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_bytes_changed_in_the_file(at: int, value: bytes) -> None:
    _load(GOOD[:at] + value + GOOD[at + len(value) :])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD)))
def test_files_cut_short(length: int) -> None:
    _load(GOOD[:length])


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_bytes_changed_behind_the_compression(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(SECTIONS) - 1))
    name, content = SECTIONS[number]
    if not content:
        return
    used = len(content.rstrip(b"\0")) or 1  # the tables' unused ends are less interesting
    at = data.draw(st.integers(0, used - 1))
    value = data.draw(st.binary(min_size=1, max_size=8))
    changed = content[:at] + value + content[at + len(value) :]
    if data.draw(st.booleans()):
        changed = changed[: data.draw(st.integers(0, len(changed)))]
    _load(_join([*SECTIONS[:number], (name, changed), *SECTIONS[number + 1 :]]))
