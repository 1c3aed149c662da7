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
from tests.unit.ext4.state_sections import join, split


def _states(*layers: list[Entry]) -> list[bytes]:
    filesystem = FileSystem.create(Geometry(128 << 20), Identity(bytes(16), bytes(16)))
    states: list[bytes] = []
    for layer in layers:
        changes = apply_layer(filesystem.tree, layer, filesystem.allocator)
        for _ in write_layer(filesystem, changes, first=not states):
            pass
        states.append(state.dump_state(filesystem, parent="below" if states else ""))
    assert state.load_states(states) == filesystem
    return states


def _all_sections() -> list[bytes]:
    """Return the states of a chain of two links that use every section."""
    base = [
        Entry(b"d/e", Kind.DIRECTORY),
        Entry(b"d/f", Kind.FILE, size=5, data=[memoryview(b"hello")]),
        Entry(b"d/g", Kind.HARDLINK, target=b"d/f"),
        Entry(b"s", Kind.SYMLINK, target=b"d/f"),
    ]
    upper = [
        Entry(b"d/e", Kind.WHITEOUT),
        Entry(b"d/g", Kind.WHITEOUT),
        Entry(b"n/t", Kind.SYMLINK, target=b"../s"),
    ]
    return _states(base, upper)


def _large_directory() -> list[bytes]:
    """Return the states of a chain of two links with a directory that is changed in place."""
    base = [Entry(b"%03d" % number + b"n" * 200, Kind.FIFO) for number in range(500)]
    return _states(base, [Entry(base[7].path, Kind.WHITEOUT), Entry(b"more", Kind.FIFO)])


BASE, UPPER = _all_sections()
CHAINS = ((BASE, UPPER), tuple(_large_directory()))


SECTIONS = [[split(data) for data in chain] for chain in CHAINS]


def test_every_section_is_in_use_in_one_of_the_states() -> None:
    used = {name for data in (BASE, UPPER) for name, content in split(data) if content}
    assert used == {b"PARM", b"BMAP", b"ITAB", b"GONE", b"DIRS", b"LINK"}  # RUNS: large files only


def test_newer_schemas_and_foreign_files_are_told_apart() -> None:
    newer = BASE[:8] + struct.pack("<I", state.SCHEMA + 1) + BASE[12:]
    with pytest.raises(SaltflatError, match=f"schema {state.SCHEMA + 1}") as caught:
        state.load_states([newer])
    assert not isinstance(caught.value, IntegrityError)
    with pytest.raises(IntegrityError):
        state.load_states([b"not a state at all"])


@pytest.mark.parametrize("order", [[], [UPPER], [UPPER, BASE], [BASE, BASE], [BASE, UPPER, BASE]])
def test_states_that_are_not_a_chain_from_its_lowest_up_are_refused(order: list[bytes]) -> None:
    with pytest.raises(IntegrityError):
        state.load_states(order)


def test_a_section_that_unfolds_beyond_its_size_is_not_unfolded() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    data = state.HEAD.pack(state.MAGIC, state.SCHEMA, 1)
    data += state.SECTION.pack(b"PARM", len(bomb), 100) + bomb
    with pytest.raises(IntegrityError, match="another size"):
        state.load_states([data])


def _load(chain: int, place: int, damaged: bytes) -> None:
    """Load a chain with one of its two states replaced."""
    states = list(CHAINS[chain])
    states[place] = damaged
    with contextlib.suppress(SaltflatError):
        state.load_states(states)


WHICH = st.integers(0, 1)


@settings(max_examples=400, deadline=None)
@given(WHICH, WHICH, st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8))
def test_bytes_changed_in_the_file(chain: int, place: int, share: float, value: bytes) -> None:
    good = CHAINS[chain][place]
    at = int(share * len(good))
    _load(chain, place, good[:at] + value + good[at + len(value) :])


@settings(max_examples=200, deadline=None)
@given(WHICH, WHICH, st.floats(0, 1))
def test_files_cut_short(chain: int, place: int, share: float) -> None:
    good = CHAINS[chain][place]
    _load(chain, place, good[: int(share * len(good))])


@settings(max_examples=800, deadline=None)
@given(WHICH, WHICH, st.data())
def test_bytes_changed_behind_the_compression(chain: int, place: int, data: st.DataObject) -> None:
    sections = SECTIONS[chain][place]
    number = data.draw(st.integers(0, len(sections) - 1))
    name, content = sections[number]
    if not content:
        return
    used = len(content.rstrip(b"\0")) or 1  # the tables' unused ends are less interesting
    at = data.draw(st.integers(0, used - 1))
    value = data.draw(st.binary(min_size=1, max_size=8))
    changed = content[:at] + value + content[at + len(value) :]
    if data.draw(st.booleans()):
        changed = changed[: data.draw(st.integers(0, len(changed)))]
    _load(chain, place, join([*sections[:number], (name, changed), *sections[number + 1 :]]))


def _changed(section: bytes, old: bytes, new: bytes) -> bytes:
    """Return the large directory's lowest state with bytes of a section replaced."""
    found = split(CHAINS[1][0])
    contents = dict(found)
    assert contents[section].count(old) == 1
    contents[section] = contents[section].replace(old, new)
    return join([(name, contents[name]) for name, _ in found])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (struct.pack("<IIIII", 2, 2, 32, 0, 500), struct.pack("<IIIII", 2, 2, 48, 0, 500), "size"),
        (struct.pack("<IB", 0, 203) + b"017", struct.pack("<IB", 1, 203) + b"017", "do not fit"),
        (struct.pack("<IB", 0, 203) + b"017", struct.pack("<IB", 40, 203) + b"017", "index"),
    ],
)
def test_names_of_a_large_directory_have_places_that_exist(
    old: bytes, new: bytes, message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        state.load_states([_changed(b"DIRS", old, new)])
