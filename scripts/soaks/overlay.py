"""Random layers overlaid by us and by umoci: the same tree, or an error on both sides.

Few names, so that everything meets everything: files, folders, links of both kinds, markers, names
that come twice, paths with dots. What is compared is the tree that our rules make of the layers;
that a disk holds this tree is for other tests. Needs umoci and root.
"""

from __future__ import annotations

import io
import os
import random
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from converter.errors import SaltflatError
from converter.layer.changeset import read_changes
from converter.layer.entry import Entry, Kind
from converter.layer.tar import read_entries
from converter.rootfs.expected import ExpectedTree
from scripts.soaks._umoci import difference, unpack
from tests.images.tarball import TarBuilder

COUNT = 3_000  # images
_MODES = (0o644, 0o600, 0o4755, 0o1777)
_FOLDER_MODES = (0o700, 0o711, 0o1777, 0o2750)
_IMPLICIT_MODE = 0o755  # of folders without an entry
_TARGETS = ("..", ".", "/", "../../a", "/b", "c", "a/b", "nowhere")

# path -> (kind, mode, content or target, first path of the same file)
FileTree = dict[bytes, tuple[Kind, int, bytes, bytes]]


def run(count: int, seed: int) -> list[str]:
    """Overlay `count` images, chosen by `seed`, on both sides; what happened goes to stderr."""
    failures: list[str] = []
    outcomes: Counter[str] = Counter()
    for number in range(count):
        layers, told = _layers(random.Random(f"{seed}/{number}"))
        with tempfile.TemporaryDirectory(prefix="saltflat-overlay-") as name:
            theirs = _unpack(Path(name), layers)
        ours, itself = _overlay(layers)
        if itself and theirs is None:
            outcomes["a link to itself, which umoci refuses"] += 1
        elif ours is None and theirs is None:
            outcomes["both refuse"] += 1
        elif ours == theirs:
            outcomes["same"] += 1
        elif ours is not None and theirs is not None and _is_order_alone(ours, theirs):
            outcomes["same but for a folder's mode"] += 1
        else:
            outcomes["differ"] += 1
            failures.append(f"seed {seed}, image {number}: {difference(ours, theirs)}: {told}")
    sys.stderr.write(f"{dict(outcomes)}\n")
    return failures


def _layers(choose: random.Random) -> tuple[list[bytes], list[list[str]]]:
    """Return the layers of one image, and in words what is in them."""
    layers, told = [], []
    made: list[str] = []
    for index in range(choose.randint(1, 3)):
        file = io.BytesIO()
        tar = TarBuilder(file)
        words = [_add(tar, choose, made, lowest=not index) for _ in range(choose.randint(1, 9))]
        tar.close()
        layers.append(file.getvalue())
        told.append(words)
    return layers, told


def _path(choose: random.Random) -> str:
    # Folders are mostly other names than files: ways through files are refused and tell no more.
    names = [choose.choice("abc") for _ in range(choose.randrange(3))]
    path = "/".join([*names, choose.choice("abcdedede")])
    dots = choose.randrange(30)
    return {0: f"./{path}", 1: f"/{path}", 2: f"../{path}", 3: f"{path}/../d"}.get(dots, path)


def _add(tar: TarBuilder, choose: random.Random, made: list[str], *, lowest: bool) -> str:
    path = _path(choose)
    kind = choose.randrange(20)
    if kind < 7:
        tar.file(path, b"%d" % choose.randrange(99), mode=choose.choice(_MODES))
        made.append(path)
    elif kind < 11:
        tar.directory(path, mode=choose.choice(_FOLDER_MODES))
    elif kind < 14:
        tar.symlink(path, choose.choice(_TARGETS))
        made.append(path)
    elif kind < 16 and made:
        target = choose.choice(made)
        tar.hardlink(path, target)
        return f"hard link {path} to {target}"
    elif kind < 19 and not lowest:
        tar.whiteout(path)
    elif not lowest:
        tar.opaque(path)
    return f"{kind} {path}"


def _overlay(layers: list[bytes]) -> tuple[FileTree | None, bool]:
    """Return the tree that our rules make of `layers`, and whether a hard link is to itself.

    No tree if they refuse the layers. GNU tar writes such links when a file is named twice, and
    passes over them, as we do.
    """
    expected = ExpectedTree(_content)
    itself = False

    def watched(changes: Iterator[Entry]) -> Iterator[Entry]:
        nonlocal itself
        for entry in changes:
            if entry.kind is Kind.HARDLINK:
                itself = itself or _place(expected, entry.path) == _place(expected, entry.target)
            yield entry

    try:
        for layer in layers:
            expected.apply(watched(read_changes(read_entries([layer]))))
    except SaltflatError:
        return None, itself
    found: FileTree = {}
    first: dict[int, bytes] = {}
    for path, node, kind in sorted(expected.tree.walk()):
        entry = expected.nodes[node]
        content = expected.digests.get(node, entry.target)
        same = b"" if kind is Kind.DIRECTORY else first.setdefault(node, path)
        found[path] = (kind, entry.mode, content, same)
    return found, itself


def _place(expected: ExpectedTree, path: bytes) -> tuple[int, list[bytes], bytes]:
    parent, _, name = path.rpartition(b"/")
    return *expected.tree.descend(expected.tree.root, parent.split(b"/")), name


def _content(entry: Entry) -> bytes:
    return b"".join(map(bytes, entry.data))


def _unpack(folder: Path, layers: list[bytes]) -> FileTree | None:
    """Return the tree that umoci makes of `layers`, None if it refuses them."""
    unpacked = unpack(folder, layers)
    if unpacked is None:
        return None
    root = os.fsencode(unpacked)
    found: FileTree = {}
    first: dict[int, bytes] = {}
    for path in sorted(_walk(root)):
        status = os.lstat(root + b"/" + path)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            found[path] = (Kind.DIRECTORY, mode, b"", b"")
            continue
        same = first.setdefault(status.st_ino, path)
        full = Path(os.fsdecode(root + b"/" + path))
        if stat.S_ISLNK(status.st_mode):
            found[path] = (Kind.SYMLINK, mode, os.fsencode(full.readlink()), same)
        else:
            found[path] = (Kind.FILE, mode, full.read_bytes(), same)
    return found


def _walk(root: bytes) -> Iterator[bytes]:
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            yield (folder + b"/" + name)[len(root) + 1 :]


def _is_order_alone(ours: FileTree, theirs: FileTree) -> bool:
    """Tell whether the trees differ by no more than where markers stand in the layers.

    A layer that puts a file into a folder of a lower one and hides that folder has made an implicit
    one. To umoci it matters which it says first: if the file, the old folder's attributes stay.
    """
    return ours.keys() == theirs.keys() and all(
        mine == theirs[path]
        or (mine == (Kind.DIRECTORY, _IMPLICIT_MODE, b"", b"") and theirs[path][0] == mine[0])
        for path, mine in ours.items()
    )
