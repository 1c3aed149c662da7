"""Damaged VMDK links and chains: refused with IntegrityError, or read right.

An input is a few edits of up to three links that our writers made, monolithicSparse or of the kinds
of `vmdk_kinds`. What the checker passes has to read back as a second, simple-minded reading of the
tables says, from the first byte to the last. Other kinds have no such checker: there the reader is
held to itself, in one piece and in small ones, and to stay in its folder.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from typing import BinaryIO

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.vmdk import c_vmdk as c
from converter.vmdk import chain as chain_module
from converter.vmdk.c_cowd import COWD_MAGICNUMBER
from converter.vmdk.chain import Chain, open_chain
from converter.vmdk.check import check_link
from converter.vmdk.descriptor import ParentRef, parse, render
from converter.vmdk.reader import Link
from converter.vmdk.scratch import write_scratch
from scripts.fuzzers import vmdk_kinds
from scripts.fuzzers.edits import Edit, Script, interesting, mutate_script
from scripts.fuzzers.lowered import lowered
from scripts.fuzzers.vmdk_texts import new_text, other_parent, text_of
from tests.unit.vmdk.chains import LinkPlan, Write, cid_of, write_link

MODULES = (
    "converter.vmdk.header",
    "converter.vmdk.descriptor",
    "converter.vmdk.entries",
    "converter.vmdk.disk_file",
    "converter.vmdk.extent",
    "converter.vmdk.reader",
    "converter.vmdk.hosted",
    "converter.vmdk.compressed",
    "converter.vmdk.cowd",
    "converter.vmdk.sesparse",
    "converter.vmdk.flat",
    "converter.vmdk.check",
    "converter.vmdk.chain",
)
CAPACITY = 528 * 4096  # of the smallest grains: two tables, the last one not whole
NAMES = ("link-0.vmdk", "link-1.vmdk", "link-2.vmdk")
WINDOW_BYTES = 192 << 10  # what is read at both ends of a disk
UNIT_BYTES = 4096  # of a writer
PART_BYTES = 4999  # of a reading in parts
TEXT_END = c.SECTOR * (c.DESCRIPTOR_OFFSET + c.DESCRIPTOR_SIZE_MAX)
PLAIN_BYTES = 8 << 20  # a larger disk is not read the long way

# What an edit does; its low two bits choose the file.
OVERWRITE, RESIZE, ENLARGE, TEXT, REPLACE, ODD_SIZE = (kind << 2 for kind in range(6))
# What stands under a name instead of a link, for REPLACE.
_NOTHING, _FIFO, _FOLDER, _SYMLINK, _HARDLINK, _EMPTY = range(6)

_BASE = LinkPlan(8192, (Write(0, (1, 2, 3)), Write(260, (1,))))
_CHILD = LinkPlan(4096, (Write(1, (0, 5)), Write(511, (4, 0)), Write(527, (2,))))
_LARGE_GRAINS = LinkPlan(65536, (Write(2, (1,)), Write(4, (0, 2))))


@cache
def _folder() -> Path:
    """Return a folder of this process, in memory where that is possible.

    Above it stands a link that no chain in it may reach.
    """
    memory = Path("/dev/shm")
    above = Path(tempfile.mkdtemp(prefix="saltflat-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    folder = above / "chain"
    folder.mkdir()
    write_link(above / NAMES[0], _BASE, CAPACITY, cid=cid_of(0))
    os.truncate(above / NAMES[0], CAPACITY)  # long enough to be a flat extent, too
    return folder


@cache
def _link(plan: LinkPlan | None, index: int) -> bytes:
    """Return link `index` as a file; None is a writable one without content."""
    path = _folder() / "original"
    parent = ParentRef(cid_of(index - 1), NAMES[index - 1]) if index else None
    if plan is not None:
        write_link(path, plan, CAPACITY, cid=cid_of(index), parent=parent)
    else:
        assert parent is not None
        with path.open("wb", buffering=0) as file:
            write_scratch(
                file, capacity_bytes=CAPACITY, grain_bytes=8192, cid=cid_of(index), parent=parent
            )
    data = path.read_bytes()
    path.unlink()
    return data


_ORIGINALS: tuple[tuple[LinkPlan | None, ...], ...] = (
    (_BASE,),
    (_BASE, _CHILD),
    (_BASE, None),
    (_BASE, _CHILD, None),
    (_LARGE_GRAINS, _CHILD),
    (_BASE, _LARGE_GRAINS, _CHILD),
)


def _files(script: Script) -> tuple[dict[str, bytes], int]:
    """Return the files of an input before its edits, and how many of them are links: the first."""
    number = script.original % (len(_ORIGINALS) + 2)
    if number >= len(_ORIGINALS):
        return vmdk_kinds.chain(script.options), vmdk_kinds.links_of(script.options)
    plans = _ORIGINALS[number]
    links = [_link(plan, index) for index, plan in enumerate(plans)]
    return dict(zip(NAMES, links, strict=False)), len(links)


# A chain of 65 files would be a large input.
@lowered(chain_module, "DEPTH_MAX", len(NAMES))
def one_input(data: bytes) -> None:
    """Check each link that `data` describes, and read the chain."""
    script = Script.parse(data)
    files, count = _files(script)
    names = (*files, *NAMES[len(files) :])
    try:
        for name, content in files.items():
            (_folder() / name).write_bytes(content)
        for edit in script.edits:
            _apply(edit, names)
        _judge(_folder() / names[count - 1], count)
    finally:
        for path in _folder().iterdir():
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def _apply(edit: Edit, names: Sequence[str]) -> None:
    path = _folder() / names[edit.kind % 4 % len(names)]
    kind = edit.kind & ~3
    if kind == REPLACE:
        _replace(path, edit.place)
        return
    if path.is_symlink() or not path.is_file():
        return
    with path.open("rb+", buffering=0) as file:
        if kind == RESIZE:
            file.truncate(edit.place * c.SECTOR)
        elif kind == ENLARGE:
            file.truncate((edit.place << 20) * c.SECTOR & (1 << 62) - 1)
        elif kind == ODD_SIZE:
            file.truncate(edit.place)
        elif kind == TEXT and file.read(1) == b"#":
            file.truncate(0)
            file.seek(0)
            file.write(edit.data)
        elif kind == TEXT:
            file.seek(c.DESCRIPTOR_OFFSET * c.SECTOR)
            file.write(edit.data.ljust(c.DESCRIPTOR_SIZE * c.SECTOR, b"\0"))
        else:
            file.seek(edit.place)
            file.write(edit.data)


def _replace(path: Path, what: int) -> None:
    what %= 6
    if path.is_dir() and not path.is_symlink():
        return
    if what == _EMPTY and path.is_file():
        os.truncate(path, 0)
        return
    path.unlink(missing_ok=True)
    if what == _FIFO:
        os.mkfifo(path)
    elif what == _FOLDER:
        path.mkdir()
    elif what == _SYMLINK:
        path.symlink_to(NAMES[0])
    elif what == _HARDLINK:
        others = [name for name in NAMES if (_folder() / name).is_file()]
        if others:
            path.hardlink_to(_folder() / others[-1])


def _judge(top: Path, count: int) -> None:
    sound = True
    for name in NAMES[:count]:
        try:
            report = check_link(_folder() / name)
            assert report.size_bytes == (_folder() / name).stat().st_size
        except IntegrityError:
            sound = False
        except NotFoundError:
            sound = False
            assert not (_folder() / name).exists()
        except OSError as error:
            sound = False
            if error.errno != errno.ELOOP:  # a symbolic link to itself, which only a user can name
                raise
    try:
        chain = open_chain(top)
    except (IntegrityError, NotFoundError):
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return
    with chain:
        for link in chain.links:
            for path in (link.path, *_extent_paths(link)):
                assert path.resolve().parent == _folder().resolve(), "a file from elsewhere"
                assert path == top or not path.is_symlink(), "a file behind a link"
            _judge_descriptor(text_of(link.file.read_at(0, min(link.file.size_bytes, TEXT_END))))
        capacity = chain.capacity_bytes
        windows = [(0, min(WINDOW_BYTES, capacity)), (max(0, capacity - WINDOW_BYTES), capacity)]
        try:
            contents = [chain.read(begin, end - begin) for begin, end in windows]
            holding = dict(chain.grains()) if capacity <= PLAIN_BYTES else {}
            flattened = _flattened(chain) if capacity <= PLAIN_BYTES else b""
        except IntegrityError:
            assert not sound, "what passed the check cannot be read"
            return
        if capacity > PLAIN_BYTES:
            return
        disk = _plain_reading(chain) if _is_plain(chain) else _reading_in_parts(chain)
        for (begin, end), content in zip(windows, contents, strict=True):
            assert content == disk[begin:end], "the tables say something else"
        assert disk == flattened, "the flattened disk is another one"
        _judge_changes(chain, disk)
        for offset in holding:
            end = min(offset + chain.grain_bytes, capacity)
            disk[offset:end] = bytes(end - offset)
        assert disk == bytes(capacity), "there is data where no link says so"


def _judge_changes(chain: Chain, disk: bytearray) -> None:
    """See that the disk below with the top link's changes is the disk."""
    made = bytearray(len(disk))
    if len(chain.links) > 1:
        try:
            made = _reading_in_parts(Chain(chain.links[:-1], ExitStack()))
        except IntegrityError:  # damage that the top link hides
            return
    done = 0
    for offset, data in chain.changes(UNIT_BYTES):
        assert offset >= done, "a change goes back"
        done = offset + len(data)
        made[offset:done] = data
    assert made == disk, "a change is not told"


def _extent_paths(link: Link) -> list[Path]:
    files = [getattr(extent, "file", None) for extent in link.extents]
    return [file.path for file in files if file is not None]


def _is_plain(chain: Chain) -> bool:
    try:
        return all(link.sparse_extent() is not None for link in chain.links)
    except IntegrityError:
        return False


def _flattened(chain: Chain) -> bytearray:
    """Read the disk as a writer is fed with it. Whoever reads again has read this before."""
    disk = bytearray(chain.capacity_bytes)
    for offset, data in chain.contents(UNIT_BYTES):
        disk[offset : offset + len(data)] = data
    return disk


def _reading_in_parts(chain: Chain) -> bytearray:
    """Read the disk once more, in pieces that end in the middle of grains."""
    disk = bytearray()
    while len(disk) < chain.capacity_bytes:
        disk += chain.read(len(disk), min(PART_BYTES, chain.capacity_bytes - len(disk)))
    return disk


def _plain_reading(chain: Chain) -> bytearray:
    """Read the disk the long way: every entry of every table, base first."""
    disk = bytearray(chain.capacity_bytes)
    for link in chain.links:
        header = link.sparse_extent().header
        grain, has_zeroed = link.grain_bytes, bool(header.flags & c.SPARSEFLAG_MAGIC_GTE)
        with link.path.open("rb") as file:
            for index in range(-(-len(disk) // (grain * c.NUM_GTES_PER_GT))):
                (sector,) = _entries(file, header.gdOffset * c.SECTOR + 4 * index, 1)
                table = _entries(file, sector * c.SECTOR, c.NUM_GTES_PER_GT) if sector else ()
                for slot, entry in enumerate(table):
                    begin = (index * c.NUM_GTES_PER_GT + slot) * grain
                    size = min(grain, len(disk) - begin)
                    if not entry or size <= 0:
                        continue
                    if entry == c.SPARSE_GTE_ZEROED and has_zeroed:
                        disk[begin : begin + size] = bytes(size)
                    else:
                        file.seek(entry * c.SECTOR)
                        data = file.read(size)  # less, where a damaged entry is hidden above
                        disk[begin : begin + len(data)] = data
    return disk


def _entries(file: BinaryIO, position: int, count: int) -> tuple[int, ...]:
    file.seek(position)
    return struct.unpack(f"<{count}I", file.read(4 * count))


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _judge_descriptor(text: bytes) -> None:
    """See that what was understood of a descriptor survives being written again."""
    descriptor = parse(text, "x")
    try:
        again = render(descriptor)
    except UsageError:
        return  # it names files that we would not name
    assert parse(again, "x") == descriptor, "a descriptor changes when it is written again"


# Variations


def mutate(data: bytes, choose: Random) -> bytes:
    """Return a variation: header fields, table entries, the text, sizes, what stands in place."""
    return mutate_script(data, choose, _new_edits)


def _new_edits(script: Script, choose: Random) -> Sequence[Edit]:
    links = list(_files(script)[0].values())
    which = choose.randrange(len(links))
    link = links[which]
    sectors = len(link) // c.SECTOR
    kind = choose.randrange(16)
    if script.original % (len(_ORIGINALS) + 2) >= len(_ORIGINALS):
        if kind <= 5:
            named = [at for at, each in enumerate(links) if b"createType" in each]
            which = choose.choice(named)
            vary = other_parent if kind <= 1 else vmdk_kinds.new_text
            return [Edit(TEXT | which, 0, vary(links[which], choose))]
        if kind <= 12:
            return [Edit(OVERWRITE | which, *vmdk_kinds.new_number(link, choose))]
    elif kind <= 2:  # a header field
        at = choose.choice((0, 4, 8, 12, 20, 28, 36, 44, 48, 56, 64, 72, 73, 74, 75, 76, 77, 79))
        width = choose.choice((1, 2, 4, 8))
        near = int.from_bytes(link[at : at + width], "little")
        return [Edit(OVERWRITE | which, at, interesting(choose, width, near))]
    if kind <= 5:
        return [Edit(TEXT | which, 0, new_text(link, choose))]
    if kind == 6:
        return [Edit(TEXT | which, 0, other_parent(link, choose))]
    if kind <= 12:  # a word of the tables, or of what lies around them
        words = _words(link)
        at = choose.choice(words)
        near = int.from_bytes(link[at : at + 4], "little")
        if choose.randrange(3) == 0:
            at = min(len(link) - 4, max(0, at + 4 * choose.choice((-1, 1, 2, 26, 511, 512))))
        other = choose.choice(words)
        value = choose.choice(
            (link[other : other + 4], interesting(choose, 4, near), _sector(choose, sectors))
        )
        return [Edit(OVERWRITE | which, at, value)]
    if kind == 13:
        return [
            Edit(RESIZE | which, max(0, sectors + choose.choice((-99, -16, -1, 1, 8, 16))), b"")
        ]
    if kind == 14:
        how = choose.choice((ENLARGE, ENLARGE, ODD_SIZE))
        return [Edit(how | which, choose.choice((1, 511, 4097, 1 << 16, 1 << 31, 0xFFFFFFFF)), b"")]
    return [Edit(REPLACE | which, choose.randrange(6), b"")]


def _sector(choose: Random, sectors: int) -> bytes:
    return choose.randrange(sectors + 2).to_bytes(4, "little")


@cache
def _words(link: bytes) -> tuple[int, ...]:
    """Return where a link's directories and tables have something."""
    header = c.SparseExtentHeader._make(c.SPARSE_EXTENT_HEADER.unpack_from(link))
    directory = header.gdOffset * c.SECTOR
    starts = [directory, *([header.rgdOffset * c.SECTOR] if header.rgdOffset else [])]
    found = list(starts)
    for start in starts:
        for at in range(start, start + 3 * 4, 4):
            table = _u32(link, at) * c.SECTOR
            if not table:
                continue
            found += [at, table, table + 2044]
            found += [each for each in range(table, table + 2048, 4) if _u32(link, each)]
    return tuple(found)


def seeds() -> list[bytes]:
    """Return the chains as they are."""
    redo_log = Script(0, 0, (Edit(OVERWRITE, 0, COWD_MAGICNUMBER),))
    plain = [Script(number, 0).dump() for number in range(len(_ORIGINALS))]
    kinds = [Script(len(_ORIGINALS), number).dump() for number in range(vmdk_kinds.COUNT)]
    return [*plain, *kinds, redo_log.dump()]
