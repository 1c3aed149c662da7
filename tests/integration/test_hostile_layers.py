"""Layers that someone made to break us: one clear error, the store as it was, and never a hang."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from converter.ext4.filesystem import FileSystem
from converter.layer.entry import Entry, Kind
from tests.images.raw_layout import GZIP, ZSTD, RawLayer, digest_of, write_layout
from tests.images.raw_tar import header, number, padded, pax
from tests.integration.conftest import Saltflat
from tests.integration.test_ext4_fsck import MIB, Disk

pytestmark = pytest.mark.integration

END = bytes(1024)
TIMEOUT_SECONDS = 60
ZEROS_16M = bytes(16 << 20)
BOMB_MEMBER = header(b"bomb", size=4 << 30)


def file(name: bytes, content: bytes = b"x") -> bytes:
    """Return a member that is a regular file."""
    return header(name, size=len(content)) + padded(content)


def link(name: bytes, target: bytes, typeflag: bytes = b"1") -> bytes:
    """Return a member that is a hard or symbolic link."""
    return header(name, typeflag, linkname=target)


# name -> (members of the only layer, what the message says; None where no member is at fault)
BROKEN: dict[str, tuple[bytes, str, str | None]] = {
    "bad checksum": (header(b"f", chksum=b"0000001\0"), "wrong checksum", "f"),
    "negative size": (header(b"f", size=-1), "size of -1", "f"),
    "huge size": (header(b"f", size=1 << 60), f"size of {1 << 60}", "f"),
    "size beyond the end": (header(b"f", size=1 << 30), "ends in the middle", "f"),
    "size that is no number": (header(b"f", size=b"12x"), "no number", "f"),
    "half a header": (file(b"f") + header(b"g")[:100], "ends in the middle", None),
    "garbage for a header": (file(b"f") + b"\xa5" * 512, "no number", "\\xa5"),
    "unknown type": (header(b"f", b"V"), "type b'V'", "f"),
    "negative owner": (header(b"f", uid=number(-5, 8)), "uid is -5", "f"),
    "huge owner": (header(b"f", gid=number(1 << 40, 8)), "gid", "f"),
    "name of 256 bytes": (pax([("path", "n" * 256)]) + file(b"f"), "256 bytes long", "nnn"),
    "NUL in a path": (pax([("path", "a\0b")]) + file(b"f"), "NUL", "a"),
    "10,000 levels": (
        pax([("path", "/".join("d" * 10_000))]) + file(b"f"),
        "path in the archive is 19999 bytes",
        "d/d/d",
    ),
    "malformed pax": (header(b"p", b"x", size=9) + padded(b"99 a=b\nxx") + file(b"f"), "pax", "p"),
    "huge pax": (header(b"p", b"x", size=1 << 40), "extended header", "p"),
    "pax headers without end": (pax([("uid", 1)]) * 20 + file(b"f"), "in a row", "PaxHeaders/0"),
    "malformed global pax": (
        header(b"p", b"g", size=9) + padded(b"99 a=b\nxx") + file(b"f"),
        "pax",
        "p",
    ),
    "global headers without end": (
        pax([("comment", 1)], b"g") * 20 + file(b"f"),
        "in a row",
        "PaxHeaders/0",
    ),
    "major number": (header(b"c", b"3", devmajor=b"0010000\0"), "device 4096:0", "c"),
    "minor number": (header(b"b", b"4", devminor=b"4000000\0"), "device 0:1048576", "b"),
    "huge device": (header(b"c", b"3", devmajor=number(1 << 50, 8)), f"device {1 << 50}:0", "c"),
    "negative device": (header(b"c", b"3", devmajor=number(-1, 8)), "device -1:0", "c"),
    "cyclic hard links": (link(b"a", b"b") + link(b"b", b"a"), "hard link to 'b'", "a"),
    "hard link to itself": (link(b"a", b"a"), "hard link to 'a'", "a"),
    "hard link to nothing": (link(b"a", b"../../../etc/passwd"), "'etc/passwd'", "a"),
    "hard link to a directory": (header(b"d", b"5") + link(b"a", b"d"), "is a directory", "a"),
    "hard link to the root": (link(b"a", b"/"), "hard link to ''", "a"),
    "symlink loop": (link(b"l", b"m", b"2") + link(b"m", b"l", b"2") + file(b"l/f"), "loop", "l/f"),
    "symlink to itself": (link(b"l", b"l", b"2") + file(b"l/f"), "loop", "l/f"),
    "empty symlink": (link(b"l", b"", b"2"), "target of 0 bytes", "l"),
    "path through a file": (file(b"f") + file(b"f/g"), "not a directory", "f/g"),
    "root as a file": (file(b"./"), "root a file", ""),
    "root as a symlink": (link(b"/", b"/etc", b"2"), "root a symlink", ""),
    "whiteout of the root": (file(b".wh.."), "whiteout", ".wh.."),
    "whiteout of a parent": (file(b"d/.wh..."), "whiteout", "d/.wh..."),
    "whiteout of nothing": (file(b"d/.wh."), "whiteout", "d/.wh."),
    "attributes larger than a block": (
        pax([(f"SCHILY.xattr.user.{n}", "v" * 3000) for n in range(2)]) + file(b"f"),
        "extended attributes need",
        "f",
    ),
    "attribute that ext4 cannot name": (
        pax([("SCHILY.xattr.user." + "n" * 256, 1)]) + file(b"f"),
        "cannot store",
        "f",
    ),
    "NUL in an attribute's name": (
        pax([("LIBARCHIVE.xattr.user.a%00b", "")]) + file(b"f"),
        "without NUL",
        "f",
    ),
    "malformed ACL": (
        pax([("SCHILY.xattr.system.posix_acl_access", "\2\0\0\0\x40\0\7\0____")]) + file(b"f"),
        "malformed POSIX ACL",
        "f",
    ),
    "negative pax size": (pax([("size", -1)]) + file(b"f"), "bad size", "f"),
    "huge pax size": (pax([("size", 10**19)]) + file(b"f"), f"size of {10**19}", "f"),
    "pax size beyond the end": (pax([("size", 1 << 20)]) + file(b"f"), "ends in the middle", "f"),
    "pax header beyond the end": (header(b"p", b"x", size=1 << 19), "ends in the middle", "p"),
    "endless number": (pax([("uid", "9" * 5000)]) + file(b"f"), "bad uid", "f"),
    "path of 4096 bytes": (pax([("path", "d/" * 2048)]) + file(b"f"), "4096 bytes long", "d/d/d"),
    "sparse map beyond the size": (
        pax([("GNU.sparse.size", 9), ("GNU.sparse.map", "4096,1")]) + file(b"f"),
        "sparse map has 1 bytes at 4096",
        "f",
    ),
    "member behind one zero block": (file(b"f") + bytes(512) + file(b"g"), "single block", None),
    "hard link to what it replaces": (
        file(b"d/f") + link(b"d", b"d/f"),
        "'d/f', which is missing",
        "d",
    ),
    "hard links in a ring": (
        file(b"a") + link(b"b", b"c") + link(b"c", b"d") + link(b"d", b"b"),
        "hard link to 'c'",
        "b",
    ),
    "long link through itself": (
        pax([("linkpath", "l/" * 2000)]) + link(b"l", b"", b"2") + file(b"l/f"),
        "loop",
        "l/f",
    ),
    "unreadable attribute": (
        pax([("LIBARCHIVE.xattr.user.a", "?")]) + file(b"f"),
        "unreadable attribute",
        "f",
    ),
}
BEYOND_EXT4 = {"attributes larger than a block", "attribute that ext4 cannot name"}
_GZIP_FILE = gzip.compress(file(b"f") + END, mtime=0)
# name -> (blob, kind, options, what the message says, the member)
DAMAGED: dict[str, tuple[bytes, str, list[str], str, str | None]] = {
    "truncated gzip": (_GZIP_FILE[:-9], GZIP, [], "truncated", None),
    "garbage after gzip": (_GZIP_FILE + b"garbage" * 9, GZIP, [], "damaged, after 1 whole", None),
    "zeros and garbage": (_GZIP_FILE + bytes(99) + b"g", GZIP, [], "garbage after its end", None),
    "wrong gzip checksum": (_GZIP_FILE[:-8] + bytes(8), GZIP, [], "checksum", None),
    "truncated second member": (_GZIP_FILE + _GZIP_FILE[:-9], GZIP, [], "truncated", None),
    "neither": (b"neither tar nor gzip" * 99, GZIP, [], "unknown format", None),
    "gzip bomb": (
        gzip.compress(BOMB_MEMBER) + gzip.compress(ZEROS_16M) * 256,
        GZIP,
        ["--max-layer-size", "512m"],
        "--max-layer-size",
        "bomb",
    ),
    "zstd bomb": (
        zstandard.compress(BOMB_MEMBER) + zstandard.compress(ZEROS_16M) * 256,
        ZSTD,
        [],
        "--max-ratio",
        "bomb",
    ),
    "bomb behind the archive": (
        zstandard.compress(file(b"f") + END) + zstandard.compress(ZEROS_16M) * 256,
        ZSTD,
        [],
        "--max-ratio",
        None,
    ),
    "too many members": (
        gzip.compress(file(b"d/f") * 20_000, 1, mtime=0) * 50,
        GZIP,
        ["--max-entries", "50000"],
        "--max-entries",
        "d/f",
    ),
    "does not fit": (header(b"f", size=1 << 30), GZIP, ["--capacity", "64m"], "--capacity", None),
}


def _snapshot(folder: Path) -> dict[str, str]:
    """Return every file's digest and every other path; lock files may come and stay."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in sorted(folder.rglob("*"))
        if path.parent.name != "locks"
    }


@pytest.fixture(scope="module")
def one_image(saltflat: Saltflat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that has one good image."""
    folder = tmp_path_factory.mktemp("one-image")
    good = write_layout(folder / "image", [RawLayer(file(b"good") + END)])
    saltflat.good("convert", "--store", folder / "store", good)
    return folder / "store"


def _refused(
    saltflat: Saltflat,
    one_image: Path,
    folder: Path,
    layer: RawLayer,
    options: list[str],
    *,
    exit_code: int,
    fragment: str,
    member: str | None,
) -> None:
    store = folder / "store"
    shutil.copytree(one_image, store)
    source = write_layout(folder / "image", [layer])
    before = _snapshot(folder)
    done = saltflat(
        "-q", "convert", "--store", store, *options, source, timeout_seconds=TIMEOUT_SECONDS
    )
    text = done.stderr.decode()
    assert done.returncode == exit_code, text
    assert text.startswith("Error: "), text
    assert text.count("Error: ") == 1
    assert "Traceback" not in text
    assert fragment in text
    assert f"layer 1/1 ({digest_of(layer.blob)})" in text
    if member is not None:
        assert f"member '{member}" in text or repr(member) in text
    assert _snapshot(folder) == before


@pytest.mark.parametrize("name", BROKEN)
def test_broken_members(saltflat: Saltflat, one_image: Path, tmp_path: Path, name: str) -> None:
    members, fragment, member = BROKEN[name]
    layer = RawLayer(members if "half" in name else members + END)
    if "beyond" in name:
        layer = RawLayer(members)
    exit_code = 1 if name in BEYOND_EXT4 else 5
    _refused(
        saltflat,
        one_image,
        tmp_path,
        layer,
        [],
        exit_code=exit_code,
        fragment=fragment,
        member=member,
    )


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_blobs_and_bombs(
    saltflat: Saltflat, one_image: Path, tmp_path: Path, name: str
) -> None:
    blob, kind, options, fragment, member = DAMAGED[name]
    exit_code = 1 if "--capacity" in options else 5
    layer = RawLayer(blob, kind=kind)
    _refused(
        saltflat,
        one_image,
        tmp_path,
        layer,
        options,
        exit_code=exit_code,
        fragment=fragment,
        member=member,
    )


def test_members_never_leave_the_root(
    saltflat: Saltflat, tool: Callable[[str], str], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    deep = "../" * 40 + str(outside).lstrip("/")
    members = [
        file(b"../../dots", b"1"),
        file(b"/absolute", b"2"),
        file(b"a/../../../back", b"3"),
        file(b"//double//slash", b"4"),
        pax([("path", deep + "/escaped")]) + file(b"x", b"5"),
        link(b"up", b"../../../..", b"2"),
        file(b"up/through-up", b"6"),
        link(b"abs", str(outside).encode(), b"2"),
        file(b"abs/through-absolute", b"7"),
        link(b"hard", b"../../../../dots"),
        file(b"twice", b"first"),
        file(b"twice", b"8"),
        link(b"twice", b"twice"),
    ]
    store = tmp_path / "store"
    source = write_layout(tmp_path / "image", [RawLayer(b"".join(members) + END)])
    saltflat.good("convert", "--store", store, "--capacity", "64m", source)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "outside", "store"]
    (disk,) = (store / "links").glob("*.vmdk")
    raw = tmp_path / "raw"
    subprocess.run([tool("qemu-img"), "convert", disk, raw], check=True, timeout=60)
    inside = str(outside)
    for path, content in {
        "/dots": b"1",
        "/absolute": b"2",
        "/back": b"3",
        "/double/slash": b"4",
        f"{inside}/escaped": b"5",
        "/through-up": b"6",
        f"{inside}/through-absolute": b"7",
        "/hard": b"1",
        "/twice": b"8",
    }.items():
        dump = [tool("debugfs"), "-R", f"cat {path}", str(raw)]
        done = subprocess.run(dump, capture_output=True, timeout=60, check=True)
        assert done.stdout == content, path


def test_concatenated_gzip_members_are_one_archive(saltflat: Saltflat, tmp_path: Path) -> None:
    tar = file(b"f", b"x" * 2000) + file(b"g") + END
    whole = RawLayer(gzip.compress(tar, mtime=0), digest_of(tar), GZIP)
    parts = RawLayer(
        b"".join(gzip.compress(tar[at : at + 700], mtime=0) for at in range(0, len(tar), 700)),
        digest_of(tar),
        GZIP,
    )
    outputs = [
        saltflat.good("convert", "--store", tmp_path / name, write_layout(tmp_path / name, [layer]))
        for name, layer in (("whole", whole), ("parts", parts))
    ]
    disks = [
        [path.name for path in (tmp_path / name / "links").glob("*.vmdk")]
        for name in ("whole", "parts")
    ]
    assert disks[0] == disks[1]
    assert len(outputs[0].splitlines()) == len(outputs[1].splitlines()) == 2


def _nested(levels: int) -> Iterator[Entry]:
    """Yield a tree that nests deeper than any one path can say: through links to its depths."""
    step = 2000
    way = b"/".join([b"d"] * step)
    start = b""
    for hop in range(levels // step):
        yield Entry(start + way + b"/f%d" % hop, Kind.FILE)
        yield Entry(b"s%d" % hop, Kind.SYMLINK, target=start + way)
        start = b"s%d/" % hop


def test_a_tree_of_10_000_levels_is_written_and_deleted(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    disk = Disk(tmp_path / "disk", 512 * MIB)
    disk.apply(list(_nested(10_000)))
    assert _depth(disk.filesystem) == 10_000
    disk.reload()
    disk.apply([Entry(b"s4/new", Kind.FILE)])
    disk.check(tool("e2fsck"))
    disk.reload()
    disk.apply([Entry(b"", Kind.OPAQUE)])
    disk.check(tool("e2fsck"))


def _depth(filesystem: FileSystem) -> int:
    parents = filesystem.tree.parents
    deepest = max(parents)
    depth = 0
    while parents[deepest] != deepest:
        deepest = parents[deepest]
        depth += 1
    return depth


@pytest.mark.timeout(30)
def test_a_million_opaque_markers_walk_the_tree_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", 256 * MIB)
    disk.apply([Entry(b"d/%d/old" % number, Kind.FILE) for number in range(3000)])
    fresh = [Entry(b"d/%d/new" % number, Kind.FILE) for number in range(3000)]
    disk.apply(fresh + [Entry(b"", Kind.OPAQUE), Entry(b"d", Kind.OPAQUE)] * 500_000)
    names = disk.filesystem.tree.directories.values()
    assert sum(b"new" in listed for listed in names) == 3000
    assert not any(b"old" in listed for listed in names)
