"""Damaged states of links: refused with an error of ours, or as good as a state of ours.

An input is a few edits of the sections of a chain of states, before they are compressed. What loads
must dump and load to the same; and a layer applied to it must work, or raise an error of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from random import Random
from typing import Any

from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4 import state
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import MIB
from converter.ext4.writer import write_layer
from converter.layer.entry import Entry, Kind
from converter.rootfs.apply import apply_layer
from scripts.fuzzers.disks import GrainDisk
from scripts.fuzzers.edits import Edit, Script, interesting, mutate_bytes, mutate_script
from tests.unit.ext4.disks import file
from tests.unit.ext4.state_sections import Sections, join, split

MODULES = (
    "converter.ext4.state",
    "converter.ext4.state_tree",
    "converter.ext4.state_counters",
)

# What an edit does, in its high bits; then 2 bits for the state and 3 for the section.
OVERWRITE, INSERT, DELETE, REPLACE, DROP, APPEND, FRAME, RESIZE = (kind << 5 for kind in range(8))


def _sparse(path: bytes, blocks: int) -> Entry:
    where = tuple((2 * number * c.BLOCK_SIZE, c.BLOCK_SIZE) for number in range(blocks))
    data = [memoryview(bytes(blocks * c.BLOCK_SIZE))]
    return Entry(path, Kind.FILE, size=2 * blocks * c.BLOCK_SIZE, data=data, segments=where)


def _layers() -> tuple[list[Entry], list[Entry], list[Entry]]:
    base = [
        Entry(b"d/e", Kind.DIRECTORY, xattrs=((b"user.x", b"1" * 900),)),
        file(b"d/f", b"hello"),
        Entry(b"d/g", Kind.HARDLINK, target=b"d/f"),
        Entry(b"s", Kind.SYMLINK, target=b"d"),
        _sparse(b"holes", 6),
    ]
    upper = [
        Entry(b"d/e", Kind.WHITEOUT),
        Entry(b"d/g", Kind.WHITEOUT),
        Entry(b"n/t", Kind.SYMLINK, target=b"../s"),
        Entry(b"n/long", Kind.SYMLINK, target=b"x" * 200),
        file(b"n/a", xattrs=((b"user.big", b"v" * 900),)),
    ]
    top = [_sparse(b"n/more", 5), Entry(b"holes", Kind.WHITEOUT), file(b"d/f", b"other")]
    return base, upper, top


def _large() -> tuple[list[Entry], ...]:
    """Return layers of a directory that is changed in place."""
    names = [b"%03d" % number + b"n" * 252 for number in range(300)]
    base = [file(b"f"), *(Entry(b"l/" + name, Kind.HARDLINK, target=b"f") for name in names)]
    return base, [Entry(b"l/" + names[7], Kind.WHITEOUT), Entry(b"l/new", Kind.FIFO)]


def _next_layer() -> list[Entry]:
    """Return a layer that touches every kind of thing that the states have."""
    return [
        Entry(b"", Kind.DIRECTORY, mode=0o700),
        Entry(b"d", Kind.DIRECTORY, xattrs=((b"user.y", b"2" * 900),)),
        Entry(b"d/e", Kind.DIRECTORY),
        Entry(b"h", Kind.HARDLINK, target=b"d/f"),
        Entry(b"s/inside", Kind.FILE),
        Entry(b"n/t", Kind.FILE),
        Entry(b"l/t", Kind.FILE),
        Entry(b"l/000" + b"n" * 252, Kind.WHITEOUT),
        file(b"holes", b"filled"),
        Entry(b"n/a", Kind.WHITEOUT),
        Entry(b"n/more", Kind.WHITEOUT),
        Entry(b"d", Kind.OPAQUE),
        _sparse(b"new", 6),
        Entry(b"", Kind.OPAQUE),
    ]


@cache
def _chain(number: int) -> tuple[Sections, ...]:
    """Return the sections of the states of an original."""
    capacity, journal, layers = (
        (64 * MIB, True, _layers()),
        (256 * MIB, False, _layers()),
        (64 * MIB, False, _large()),
    )[number // 3]
    disk = GrainDisk(capacity, journal=journal)
    found = []
    for index, layer in enumerate(layers[: number % 3 + 1]):
        disk.apply(layer)
        found.append(split(state.dump_state(disk.filesystem, parent="p" if index else "")))
    return tuple(found)


_ORIGINALS = 8


def one_input(data: bytes) -> None:
    """Load the states that `data` describes, store what they are, and build on it."""
    states = _states(Script.parse(data))
    try:
        filesystem = state.load_states(states)
    except IntegrityError:
        return
    except SaltflatError as error:
        if type(error) is SaltflatError and "schema" in error.what:
            return
        raise
    _judge_one_by_one(states, filesystem)
    _judge_dump(states, filesystem)
    try:
        _write(filesystem, _next_layer())
    except SaltflatError:
        return
    again = state.load_states([*states, state.dump_state(filesystem, parent="p")])
    assert again == filesystem, "a layer's state is not what was written"


def _states(script: Script) -> list[bytes]:
    chain = [list(sections) for sections in _chain(script.original % _ORIGINALS)]
    frames = []
    for edit in script.edits:
        which = edit.kind >> 3 & 3
        if which >= len(chain):
            continue
        if edit.kind & ~31 == FRAME:
            frames.append((which, edit))
        else:
            _apply(chain[which], edit)
    states = [join(sections) for sections in chain]
    for which, edit in frames:
        good = states[which]
        at = edit.place % (len(good) + 1)
        states[which] = good[:at] + edit.data + good[at + len(edit.data) :]
    order = script.options >> 4
    if order == 1:
        states.reverse()
    elif order == 2:
        states.append(states[-1])
    elif order == 3:
        del states[0]
    return states


def _apply(sections: Sections, edit: Edit) -> None:
    kind, number = edit.kind & ~31, edit.kind & 7
    if kind == APPEND:
        sections.append((edit.data[:4].ljust(4, b"\0"), edit.data[4:]))
        return
    if number >= len(sections):
        return
    name, content = sections[number]
    at = min(edit.place, len(content))
    if kind == OVERWRITE:
        content = content[:at] + edit.data + content[at + len(edit.data) :]
    elif kind == INSERT:
        content = content[:at] + edit.data + content[at:]
    elif kind == DELETE:
        content = content[:at] + content[at + int.from_bytes(edit.data[:3], "little") :]
    elif kind == REPLACE:
        content = edit.data
    elif kind == RESIZE:
        content = content[:at]
    elif kind == DROP:
        del sections[number]
        return
    sections[number] = (name, content)


def _judge_one_by_one(states: Sequence[bytes], filesystem: FileSystem) -> None:
    """See that adding a state to those below gives the same, if each of them makes sense alone."""
    below: FileSystem | None = None
    try:
        for data in states:
            below = state.add_state(below, data)
    except IntegrityError:
        assert len(states) > 1, "one state is refused alone, but not as a chain"
        return
    assert below == filesystem, "states one by one are not their chain"
    try:
        same = state.same_content(states[0], states[-1])
    except IntegrityError:
        # Loading passes over sections that it does not know; comparing unfolds them, too.
        known = {name for name, _ in _chain(0)[0]}
        assert {name for data in states for name in _names(data)} - known, "damage was loaded"
        return
    assert same == (len(states) == 1)


def _names(data: bytes) -> Iterator[bytes]:
    """Yield the names of a state's sections."""
    at = state.HEAD.size
    while at < len(data):
        name, stored, _ = state.SECTION.unpack_from(data, at)
        at += state.SECTION.size + stored
        yield name


def _judge_dump(states: Sequence[bytes], filesystem: FileSystem) -> None:
    """See that nothing gets lost in a dump of no change, nor in one of everything."""
    nothing = state.dump_state(filesystem, parent="p")
    again = state.load_states([*states, nothing])
    assert again == filesystem, "a state without changes changes something"
    tree, allocator = again.tree, again.allocator
    tree.journal.made = set(tree.directories)
    tree.journal.nodes = {*tree.links, *tree.symlinks}
    allocator.dirty_block_bitmaps = set(allocator.block_bitmaps)
    allocator.dirty_inode_bitmaps = set(allocator.inode_bitmaps)
    for placement in again.placements.values():
        placement.stored = False
    again.dirty_grains = set(again.grains)
    whole = state.load_states([state.dump_state(again)])
    assert whole == filesystem, "a dump of everything is not the same"


def _write(filesystem: FileSystem, layer: Iterable[Entry]) -> None:
    for _ in write_layer(filesystem, apply_layer(filesystem.tree, layer, filesystem.allocator)):
        pass


# Variations


def mutate(data: bytes, choose: Random) -> bytes:
    """Return a variation: fields of sections, parameters, names, framing."""
    return mutate_script(data, choose, _new_edits)


def _new_edits(script: Script, choose: Random) -> list[Edit]:
    chain = _chain(script.original % _ORIGINALS)
    which = choose.randrange(len(chain))
    number = choose.choice((0, 0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 5, 6))
    where = which << 3 | number
    _, content = chain[which][number]
    kind = choose.randrange(12)
    if number == 0 and kind <= 8:
        return [Edit(REPLACE | where, 0, _new_parameters(content, choose))]
    if kind <= 6 and content:
        at = choose.choice(_used(content)) + choose.randrange(4)
        width = choose.choice((1, 1, 2, 4))
        near = int.from_bytes(content[at : at + width], "little")
        if choose.randrange(4) == 0:
            source = choose.choice(_used(content))
            return [Edit(OVERWRITE | where, at, content[source : source + 4])]
        return [Edit(OVERWRITE | where, at, interesting(choose, width, near))]
    at = choose.choice((0, len(content), choose.randint(0, len(content))))
    if kind == 7:
        source = choose.randint(0, len(content))
        return [Edit(INSERT | where, at, content[source : source + choose.choice((4, 8, 20, 64))])]
    if kind == 8:
        size = choose.choice((1, 4, 8, 4101, 65540))
        return [Edit(DELETE | where, at, size.to_bytes(3, "little"))]
    if kind == 9:
        return [Edit(choose.choice((RESIZE, DROP)) | where, at, b"")]
    if kind == 10:
        name = choose.choice(
            (b"PARM", b"BMAP", b"ITAB", b"GONE", b"DIRS", b"LINK", b"RUNS", b"more")
        )
        return [Edit(APPEND | where, 0, name + content[: choose.choice((0, 4, 60, 4101))])]
    width = choose.choice((1, 4, 8))
    value = interesting(choose, width, 1)
    if choose.randrange(2) == 0:  # a section's size: one that it has not, but that it might have
        value = choose.choice((1 << 20, state.MAX_SECTION_BYTES - 1)).to_bytes(8, "little")
        return [Edit(FRAME | where, state.HEAD.size + 12, value)]
    return [Edit(FRAME | where, choose.choice((0, 8, 12, 16, 20, 28, 36)), value)]


@cache
def _used(content: bytes) -> tuple[int, ...]:
    """Return where the words of `content` are that say something."""
    return tuple(at for at in range(0, len(content), 4) if content[at : at + 4] != bytes(4)) or (0,)


def _new_parameters(content: bytes, choose: Random) -> bytes:
    parameters: dict[str, Any] = json.loads(content)
    key = choose.choice(sorted(parameters))
    parameters[key] = _new_value(parameters[key], choose)
    text = json.dumps(parameters).encode()
    return mutate_bytes(text, choose) if choose.randrange(8) == 0 else text


def _new_value(value: Any, choose: Random) -> Any:  # noqa: ANN401 - whatever JSON has
    if isinstance(value, list) and value and choose.randrange(8):
        at = choose.randrange(len(value))
        return [
            *value[:at],
            _new_value(value[at], choose),
            *value[at + choose.choice((1, 1, 1, 0)) :],
        ]
    if isinstance(value, int) and choose.randrange(16) == 0:
        return float(value)
    if isinstance(value, int) and choose.randrange(8):
        return value + choose.choice((-16, -2, -1, 1, 2, 16, 1 << 20, 1 << 40, -value, -value - 1))
    if isinstance(value, str) and choose.randrange(2):
        return choose.choice(("", value + "00", value[:-1], value[:-2], "\u0107", value[::-1]))
    return choose.choice((None, True, 0, 1.5, "", "x", [], [[0, 1]], {}, 1 << 70, -1))


def seeds() -> list[bytes]:
    """Return the chains as they are."""
    return [Script(number, 0).dump() for number in range(_ORIGINALS)]
