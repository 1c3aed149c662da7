"""Random headers read by us and by Go's reader in umoci: the same members, to the last attribute.

Numbers in every spelling, pax records and GNU long names in any number and order, headers of every
age, prefixes, sizes where none belong. Nearly all of it is taken by both sides; what one refuses,
the other has to refuse. Needs umoci and root.
"""

from __future__ import annotations

import os
import random
import stat
import tempfile
from pathlib import Path

from converter.errors import SaltflatError
from converter.layer.changeset import read_changes
from converter.layer.entry import Entry, Kind
from converter.layer.tar import read_entries
from converter.rootfs.expected import ExpectedTree
from scripts.soaks._umoci import difference, unpack
from tests.images.raw_tar import header, number, padded, pax

COUNT = 3_000  # archives
_GNU = b"ustar  \0"
_MAGICS = (*[b"ustar\x0000"] * 4, _GNU, _GNU, bytes(8), b"ustar\0  ", b"ustar\0\0\0", b"ustar  0")
_TYPES = (*[b"0"] * 6, b"\0", b"\0", b"5", b"2", b"1", b"3", b"4", b"6")
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}

Members = dict[bytes, Entry]  # a file's content stands in `target`


def run(count: int, seed: int) -> list[str]:
    """Read `count` archives, chosen by `seed`, on both sides."""
    failures: list[str] = []
    for index in range(count):
        choose = random.Random(f"{seed}/{index}")
        members = b"".join(_member(choose, number) for number in range(choose.randint(1, 4)))
        archive = header(b"base") + header(b"d", b"5") + members + bytes(1024)
        with tempfile.TemporaryDirectory(prefix="saltflat-headers-") as name:
            theirs = _unpack(Path(name), archive)
        ours = _read(archive)
        if ours != theirs:
            failures.append(f"seed {seed}, archive {index}: {difference(ours, theirs)}")
    return failures


def _member(choose: random.Random, index: int) -> bytes:
    name = b"%s%d" % (choose.choice([b"n", b"n", b"d/n"]), index)
    content = b"<%d>" % index * choose.choice([1, 1, 200])
    kind = choose.choice(_TYPES)
    is_file = kind in {b"0", b"\0"}
    extended = b"".join(_extended(choose, index, content) for _ in range(choose.randrange(4)))
    if kind in {b"\0", b"5"} and not choose.randrange(8):
        name += b"/"
    is_file = is_file and not (kind == b"\0" and name.endswith(b"/"))
    modes = [0o644, 0o755, 0o4755, 0] + [0o100644] * is_file
    fields = {
        "mode": _number(choose, modes, 8),
        "uid": _number(choose, [0, 5, 70_000, 3_000_000_000], 8),
        "gid": _number(choose, [0, 6, 2**32 - 2], 8),
        "mtime": _number(choose, [0, 1, 1_600_000_000, -5], 12),
        "magic": choose.choice(_MAGICS),
        "linkname": b"base" if kind == b"1" else b"target",
    }
    if kind in {b"3", b"4"}:
        fields["devmajor"] = _number(choose, [0, 1, 259], 8)
        fields["devminor"] = _number(choose, [3, 70_000], 8)
    if not choose.randrange(5):
        fields["prefix"] = choose.choice([b"p", b"p/q", b"p" * 130, b"00000000001\0", b"p" * 155])
    if not is_file:  # a size without content behind it
        size = number(choose.choice([0, 0, 700]))
        if kind == b"\0":  # a long name may make it a file, whose content would be missing
            extended, size = b"", number(0)
        return extended + header(name, kind, size=size, **fields)
    size = _number(choose, [len(content)], 12, zero=False)
    return extended + header(name, kind, size=size, **fields) + padded(content)


def _number(choose: random.Random, values: list[int], room: int, *, zero: bool = True) -> bytes:
    """Spell one of `values` in one of the ways that there are."""
    value = choose.choice(values)
    octal = b"%o" % abs(value)
    spellings = [number(value, room)]
    if value >= 0:
        spellings.append(b"\x80" + value.to_bytes(room - 1, "big"))
        if len(octal) < room:
            spellings += [octal + b" ", octal.rjust(room - 1) + b"\0", octal.zfill(room)]
            spellings.append(b" " + octal)
    if zero and not value:
        spellings += [bytes(room), b" " * room]
    return choose.choice(spellings)


def _extended(choose: random.Random, index: int, content: bytes) -> bytes:
    """Return a header for what follows: a GNU long name or pax records."""
    which = choose.randrange(6)
    if which < 2:
        typeflag, text = (b"L", b"long%d" % index) if which else (b"K", b"link")
        text += b"x" * choose.choice([0, 120]) + choose.choice([b"\0", b"", b"\0\0rest"])
        return header(b"././@LongLink", typeflag, size=len(text), magic=_GNU) + padded(text)
    records = {
        "path": [f"px{index}", "", f"px/../q{index}", f"/abs{index}", f"./{index}/", "a=b"],
        "linkpath": ["pl", ""],
        "uid": ["7", "", "0", "00012", "4294967294"],
        "gid": ["8", "", "99999"],
        "mtime": ["1.5", "-1.5", "", "0", "1600000000.123456789", "12.", "1.1234567891234"],
        "atime": ["1.5", ""],
        "size": [f"{len(content)}", ""],
        "SCHILY.xattr.trusted.a": ["1", "a=b\n"],
        "SCHILY.xattr.security.b": ["2"],
        "comment": ["c"],
        "uname": ["root"],
        "hdrcharset": ["BINARY", "ISO-IR 10646 2000 UTF-8"],
        "VENDOR.key": ["v", ""],
    }
    keys = choose.choices(list(records), k=choose.randint(1, 5))
    return pax([(key, choose.choice(records[key])) for key in keys])


def _read(archive: bytes) -> Members | None:
    """Return the members as we read them, None if we refuse them."""
    expected = ExpectedTree(lambda entry: b"".join(map(bytes, entry.data)))
    try:
        expected.apply(read_changes(read_entries([archive])))
    except SaltflatError:
        return None
    return {
        path: _plain(expected.nodes[node], expected.digests.get(node, b""))
        for path, node, _ in expected.tree.walk()
    }


def _plain(entry: Entry, content: bytes) -> Entry:
    """Return what can be compared: unpackers leave their own time on folders."""
    if entry.kind is Kind.DIRECTORY:
        return entry._replace(mtime_ns=0)
    return entry._replace(target=entry.target or content)


def _unpack(folder: Path, archive: bytes) -> Members | None:
    """Return the members as umoci unpacks them, None if it refuses them."""
    root = unpack(folder, [archive])
    if root is None:
        return None
    found: Members = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        is_device = kind in {Kind.CHARACTER, Kind.BLOCK}
        content = b""
        if kind is Kind.FILE:
            content = path.read_bytes()
        elif kind is Kind.SYMLINK:
            content = os.fsencode(path.readlink())
        entry = Entry(
            b"",
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_size if kind is Kind.FILE else 0,
            major=os.major(status.st_rdev) if is_device else 0,
            minor=os.minor(status.st_rdev) if is_device else 0,
            xattrs=tuple(
                (os.fsencode(name), os.getxattr(path, name, follow_symlinks=False))
                for name in sorted(os.listxattr(path, follow_symlinks=False))
            ),
        )
        found[os.fsencode(path.relative_to(root))] = _plain(entry, content)
    return found
