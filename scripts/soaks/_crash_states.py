"""What a disk may hold after a power cut, from a history of what was done to it. Pure; no I/O.

The model is stricter than ext4, XFS or btrfs, and within what POSIX promises:

- Content. What was written to a file (bytes, size, mode) is durable when fsync or fdatasync of that
  file, begun after the write had ended, has ended. Until then each file is independently as of its
  last fsync ("lost"), as written ("kept"), of the written size with zeros where nothing was durable
  ("zeros", what delayed allocation leaves), or "torn": each write whole, missing, or cut at a
  512-byte sector, in any combination.
- Names. A creation, link, rename, removal, mkdir or rmdir is durable when fsync of its folder,
  begun after it had ended, has ended. fsync of the file itself makes no name durable, and fsync of
  a folder not the folder's own name. Until then each may have happened or not, whatever happened to
  others before or after it in the same folder: any subset, applied in order. One call is atomic: a
  rename never shows half.
- Calls of several threads. A change may be on the disk from the moment it was called; a sync counts
  only for what had returned when it was called, and only once it has returned itself.

So it is enough to cut the power right before each sync ends, and after the end: everything that
could be on the disk at any instant since the sync before is among what those leave.

Not modelled: times of files, renames from folder to folder, disks that lie about a flush.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SECTOR = 512
ROOT = 0
VARIANTS = ("kept", "lost", "zeros", "torn")
_GROUP_LIMIT = 5  # names of a folder that nobody ever syncs: beyond, they are chosen as a crowd


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A size set."""

    size: int


@dataclass(frozen=True, slots=True)
class Chmod:
    """A mode set."""

    mode: int


Change = Write | Truncate | Chmod


@dataclass(frozen=True, slots=True)
class DataOp:
    """A change of the file `node`, called at `began` and returned at `ended`."""

    began: int
    ended: int
    node: int
    change: Change


@dataclass(frozen=True, slots=True)
class NameOp:
    """A change of names in the folder `node`: each name to a node, or None for none any more."""

    began: int
    ended: int
    node: int
    slots: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class SyncOp:
    """fsync of the file or folder `node`."""

    began: int
    ended: int
    node: int


@dataclass(frozen=True, slots=True)
class File:
    """A file's content and mode."""

    data: bytes = b""
    mode: int = 0o600


@dataclass(slots=True)
class History:
    """A disk as it was, all of it durable, and what was then done to it.

    `folders` gives the entries of each folder node, `files` each file's content, both also for
    nodes that the operations make: those begin empty. `ROOT` is the folder where everything is.
    """

    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    files: dict[int, File] = field(default_factory=dict)
    operations: list[DataOp | NameOp | SyncOp] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class State:
    """One disk that a cut may leave: files and folders by path; `nodes` tells hard links.

    `where` says which cut and which choice; `finished` that all operations had returned.
    """

    where: str
    finished: bool
    files: Mapping[str, File]
    nodes: Mapping[str, int]
    folders: tuple[str, ...]


def crash_states(history: History, *, limit: int, seed: int) -> Iterator[State]:
    """Yield the different states that a power cut may leave, those after the end first.

    At each cut all choices, if they are at most `limit`; else the extreme ones (all, none, each
    alone, each missing, up to twice as many) and others, all chosen by `seed`.
    """
    synced = {op.node for op in history.operations if isinstance(op, SyncOp)}
    seen: set[object] = set()
    *cuts, end = enumerate(_cuts(history))
    random.Random(seed).shuffle(cuts)
    for number, cut in (end, *cuts):
        choose = random.Random(f"{seed}/{number}")
        for names, contents in _choices(cut, synced, limit, choose):
            state = _state(cut, f"cut {number}", names, contents, choose)
            key = (
                state.finished,
                state.folders,
                tuple(sorted((p, hash(f.data), f.mode) for p, f in state.files.items())),
            )
            if key not in seen:
                seen.add(key)
                yield state


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is durable at an instant, and what was done that is not."""

    folders: Mapping[int, Mapping[str, int]]
    files: Mapping[int, File]
    names: tuple[NameOp, ...]
    data: Mapping[int, tuple[Change, ...]]
    finished: bool
    made: dict[tuple[int, str], File] = field(default_factory=dict)  # by node and variant


def _cuts(history: History) -> Iterator[_Cut]:
    folders = {node: dict(entries) for node, entries in history.folders.items()}
    files = dict(history.files)
    changes = sorted(
        (op for op in history.operations if not isinstance(op, SyncOp)), key=lambda op: op.began
    )
    syncs = sorted(
        (op for op in history.operations if isinstance(op, SyncOp)), key=lambda op: op.ended
    )
    durable: set[int] = set()  # indexes into `changes`

    def pending(until: int) -> list[tuple[int, DataOp | NameOp]]:
        return [
            (index, op)
            for index, op in enumerate(changes)
            if op.began < until and index not in durable
        ]

    def cut(until: int, *, finished: bool) -> _Cut:
        waiting = [op for _index, op in pending(until)]
        data: dict[int, tuple[Change, ...]] = {}
        for op in waiting:
            if isinstance(op, DataOp):
                data[op.node] = (*data.get(op.node, ()), op.change)
        names = tuple(op for op in waiting if isinstance(op, NameOp))
        return _Cut(
            {node: dict(entries) for node, entries in folders.items()},
            dict(files),
            names,
            data,
            finished,
        )

    for sync in syncs:
        yield cut(sync.ended, finished=False)
        for index, op in pending(sync.began):
            if op.node == sync.node and op.ended < sync.began:
                durable.add(index)
                if isinstance(op, NameOp):
                    _rename(folders.setdefault(op.node, {}), op)
                else:
                    files[op.node] = _changed(files.get(op.node, File()), [op.change])
    end = max((op.ended for op in history.operations), default=0) + 1
    yield cut(end, finished=True)


def _choices(
    cut: _Cut, synced: set[int], limit: int, choose: random.Random
) -> Iterator[tuple[frozenset[int], Mapping[int, str]]]:
    """Yield (indexes of the names that happened, variant of each unsynced file)."""
    crowd = [index for index, op in enumerate(cut.names) if op.node not in synced]
    if len(crowd) <= _GROUP_LIMIT:
        crowd = []
    single = [index for index in range(len(cut.names)) if index not in crowd]
    files = sorted(cut.data)
    crowds = (frozenset(crowd), frozenset[int]()) if crowd else (frozenset[int](),)
    total = 2 ** len(single) * len(crowds) * len(VARIANTS) ** len(files)
    if total <= limit:
        for bits in itertools.product((True, False), repeat=len(single)):
            chosen = {index for index, bit in zip(single, bits, strict=True) if bit}
            for others in crowds:
                for variants in itertools.product(VARIANTS, repeat=len(files)):
                    yield (
                        frozenset(chosen | others),
                        dict(zip(files, variants, strict=True)),
                    )
        return
    everything = frozenset(single)
    extremes = [everything, frozenset[int]()]
    extremes += [everything - {index} for index in single]
    extremes += [frozenset({index}) for index in single]
    corners = list(itertools.product(extremes, VARIANTS if files else VARIANTS[:1]))
    for chosen_names, variant in choose.sample(corners, min(len(corners), 2 * limit)):
        yield chosen_names | choose.choice(crowds), dict.fromkeys(files, variant)
    for _ in range(limit):
        some = {index for index in range(len(cut.names)) if choose.random() < 0.5}
        yield frozenset(some), {node: choose.choice(VARIANTS) for node in files}


def _state(
    cut: _Cut,
    where: str,
    names: frozenset[int],
    contents: Mapping[int, str],
    choose: random.Random,
) -> State:
    folders = {node: dict(entries) for node, entries in cut.folders.items()}
    for index, op in enumerate(cut.names):
        if index in names:
            _rename(folders.setdefault(op.node, {}), op)
    files: dict[str, File] = {}
    nodes: dict[str, int] = {}
    found: list[str] = []
    torn: dict[
        tuple[int, str], File
    ] = {}  # each time torn otherwise, but the same under all its names

    def content(node: int) -> File:
        variant = contents.get(node, "kept")
        made = torn if variant == "torn" else cut.made
        if (node, variant) not in made:
            before = cut.files.get(node, File())
            made[node, variant] = _variant(before, cut.data.get(node, ()), variant, choose)
        return made[node, variant]

    def walk(node: int, above: str) -> None:
        for name, child in sorted(folders.get(node, {}).items()):
            path = f"{above}{name}"
            if child in folders:
                found.append(path)
                walk(child, f"{path}/")
                continue
            files[path], nodes[path] = content(child), child

    walk(ROOT, "")
    missing = [_said(op) for index, op in enumerate(cut.names) if index not in names]
    shown = {path: contents[node] for path, node in nodes.items() if node in contents}
    text = f"{where}, content {shown or 'all durable'}, without {', '.join(missing) or 'nothing'}"
    return State(text, cut.finished, files, nodes, tuple(found))


def _said(op: NameOp) -> str:
    return " + ".join(f"{name}{'' if node is None else ' made'}" for name, node in op.slots)


def _rename(entries: dict[str, int], op: NameOp) -> None:
    for name, node in op.slots:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _variant(before: File, changes: Sequence[Change], variant: str, choose: random.Random) -> File:
    if variant == "kept":
        return _changed(before, changes)
    if variant == "lost":
        return before
    if variant == "zeros":
        return _changed(
            before,
            [
                Write(change.offset, bytes(len(change.data)))
                if isinstance(change, Write)
                else change
                for change in changes
            ],
        )
    return _changed(before, list(_torn(changes, choose)))


def _torn(changes: Sequence[Change], choose: random.Random) -> Iterator[Change]:
    for change in changes:
        fate = choose.randrange(3)
        if fate == 0:
            yield change
        elif fate == 1 and isinstance(change, Write):
            whole = choose.randrange(len(change.data) // SECTOR + 1) * SECTOR
            yield Write(change.offset, change.data[:whole])


def _changed(before: File, changes: Sequence[Change]) -> File:
    data, mode = bytearray(before.data), before.mode
    for change in changes:
        if isinstance(change, Chmod):
            mode = change.mode
        elif isinstance(change, Truncate):
            del data[change.size :]
            data.extend(bytes(change.size - len(data)))
        elif change.data:
            data.extend(bytes(max(0, change.offset - len(data))))
            data[change.offset : change.offset + len(change.data)] = change.data
    return File(bytes(data), mode)
