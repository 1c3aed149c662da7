"""The chains of other kinds that the target `vmdk` damages, and how their files are varied.

Streams, flat disks, COWD, seSparse, and a disk of several extents: with descriptors of their own
files and without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from converter.vmdk import c_vmdk as c
from converter.vmdk.descriptor import Descriptor, Extent, render
from scripts.fuzzers.edits import interesting
from scripts.fuzzers.vmdk_texts import text_of
from tests.unit.vmdk.kinds import K64, KINDS, SMALL_SESPARSE, Changes, Kind, write_links

CAPACITY = 4 * K64
_FRONT_BYTES = 12 << 10  # of a file: headers and tables
_BY_NAME = {kind.name: kind for kind in KINDS}
_LOW: Changes = ((0, b"x" * 512), (K64, b"y" * 1024))
_HIGH: Changes = ((K64, bytes(K64)), (3 * K64, b"z" * 512))


def _kinds(*names: str) -> tuple[Kind, ...]:
    return tuple(_BY_NAME.get(name, SMALL_SESPARSE) for name in names)


_CHAINS = (
    _kinds("sparse, 8 sectors", "stream, footer"),
    _kinds("stream, front"),
    _kinds("vmfs", "COWD, 8 sectors"),
    _kinds("COWD, 1 sectors"),
    _kinds("flat", "seSparse, small"),
    (),  # a disk of several extents
)
COUNT = len(_CHAINS)


@cache
def chain(number: int) -> dict[str, bytes]:
    """Return the files of chain `number`, its links first, the topmost last of them."""
    kinds = _CHAINS[number % COUNT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kinds:
            links = list(zip(kinds, (_LOW, _HIGH), strict=False))
            tops = [path.name for path, _ in write_links(folder, links, CAPACITY)]
        else:
            tops = [_several_extents(folder)]
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {top: files.pop(top) for top in tops} | files


def links_of(number: int) -> int:
    """Count the links of chain `number`."""
    return len(_CHAINS[number % COUNT]) or 1


def _several_extents(folder: Path) -> str:
    """Write parts of a raw file, zeros, and a sparse extent as one disk."""
    write_links(folder, [(_BY_NAME["sparse, 8 sectors"], _LOW)], CAPACITY)
    (folder / "link-0.vmdk").rename(folder / "sparse.vmdk")
    (folder / "raw").write_bytes(b"".join(bytes([at]) * 512 for at in range(8)))
    extents = (
        Extent("RW", 2, c.EXTENT_TYPE_FLAT, "raw", 5),
        Extent("RW", CAPACITY // 512, c.EXTENT_TYPE_SPARSE, "sparse.vmdk"),
        Extent("RDONLY", 4, c.EXTENT_TYPE_FLAT, "raw", 0),
        Extent("RW", 3, c.EXTENT_TYPE_ZERO, "-"),
    )
    text = render(Descriptor(1, c.CREATE_TYPE_CUSTOM, extents))
    (folder / "link-0.vmdk").write_bytes(text.replace(b' ZERO "-"', b" ZERO"))
    return "link-0.vmdk"


_ROWS = (
    b'RW 8 FLAT "../link-0.vmdk" 0',
    b'RW 512 SPARSE "../link-0.vmdk"',
    b'RW 512 VMFS "link-0.vmdk"',
    b'RW 512 FLAT "raw" 18446744073709551615',
    b'RW 512 SPARSE "sparse.vmdk"',
    b'RW 512 VMFSSPARSE "link-0.vmdk"',
    b'RW 512 SESPARSE "link-0.vmdk"',
    b"RW 1 ZERO",
    b"RW 0 ZERO",
    b"RW 9999999999999999999 ZERO",
    b'NOACCESS 512 FLAT "raw" 0',
    b'RW 512 FLAT "gone" 0',
    b'createType="custom"',
    b'createType="vmfs"',
    b'createType="monolithicFlat"',
    b'createType="twoGbMaxExtentSparse"',
    b'createType="vmfsSparse"',
    b'createType="seSparse"',
    b'createType="fullDevice"',
    b'createType="streamOptimized"',
)  # fmt: skip - a list of words


_NAMES = (b"../link-0.vmdk", b"link-0.vmdk", b"link-1.vmdk", b"gone", b"/etc/passwd", b"", b"raw")


def new_text(link: bytes, choose: Random) -> bytes:
    """Return the text of `link` with another extent or type, or another name of a file."""
    lines = text_of(link).split(b"\n")
    alike = [at for at, old in enumerate(lines) if old.startswith((b"RW", b"RD"))]
    if alike and choose.randrange(3) == 0:
        at = choose.choice(alike)
        before, _, rest = lines[at].partition(b'"')
        lines[at] = before + b'"' + choose.choice(_NAMES) + b'"' + rest.partition(b'"')[2]
        return b"\n".join(lines)
    line = choose.choice(_ROWS)
    alike = [at for at, old in enumerate(lines) if old[:3] == line[:3]]
    if alike and choose.randrange(3):
        lines[choose.choice(alike)] = line
    else:
        lines.insert(choose.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def new_number(data: bytes, choose: Random) -> tuple[int, bytes]:
    """Return a place in a file that has headers or tables, and another number for it."""
    width = choose.choice((1, 2, 4, 4, 8))
    how = choose.randrange(4)
    if how == 0:
        at = choose.randrange(0, min(len(data), choose.choice((32, 80, 216))), 4)
    elif how == 1:  # a footer
        at = max(0, len(data) - choose.randrange(0, 1540, 4) - width)
    else:
        at = choose.choice(_words(data))
        if choose.randrange(4) == 0:
            at = max(0, min(len(data) - width, at + choose.choice((-8, -4, 4, 8, 12))))
    if choose.randrange(4) == 0:
        return at, bytes(width)
    return at, interesting(choose, width, int.from_bytes(data[at : at + width], "little"))


@cache
def _words(data: bytes) -> Sequence[int]:
    """Return where in a file's front, and at its end, something stands."""
    ends = (
        range(0, min(len(data), _FRONT_BYTES), 4),
        range(max(0, len(data) - 4096), len(data), 4),
    )
    places = {at & ~3 for end in ends for at in end}
    grain = K64 if len(data) > K64 else 0  # a stream's first one
    places |= set(range(grain, min(len(data), grain + 64), 4))
    return sorted(at for at in places if any(data[at : at + 4])) or [0]
