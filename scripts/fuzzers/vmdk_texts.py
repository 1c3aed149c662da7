"""Descriptors and their variations, for the target `vmdk`. Owns the words that they are made of."""

from __future__ import annotations

from random import Random

from converter.vmdk import c_vmdk as c
from scripts.fuzzers.edits import mutate_bytes

_LINES = (
    b"version=1",
    b"version=2",
    b"CID=fffffffe",
    b"CID=c0de0001",
    b"CID=123456789",
    b"CID=",
    b"parentCID=ffffffff",
    b"parentCID=c0de0000",
    b"parentCID=0",
    b'createType="streamOptimized"',
    b'createType="monolithicSparse"',
    b'parentFileNameHint="link-0.vmdk"',
    b'parentFileNameHint="link-1.vmdk"',
    b'parentFileNameHint="../link-0.vmdk"',
    b'parentFileNameHint=".."',
    b'parentFileNameHint="' + b"n" * 300 + b'"',
    b'parentFileNameHint=""',
    b'parentFileNameHint="a/b"',
    b'parentFileNameHint="nbd:x"',
    b'RW 4224 SPARSE "x.vmdk"',
    b'RW 4224 FLAT "x" 0',
    b"RW 4224 ZERO",
    b'RDONLY 0 SPARSE "x"',
    b'RW 9999999999999999999 SPARSE "x"',
    b"# CID=1",
    b'ddb.longContentID = "1"',
    b"ddb.x = 1",
    b"no line at all",
    b'x = "a"b"',
    b"\xff\xfe",
    b"\t\r ",
    b'encoding="windows-1252"',
)  # fmt: skip - a list of words

_HINT = b'parentFileNameHint="'
_HINTS = tuple(line for line in _LINES if line.startswith(_HINT))


def text_of(data: bytes) -> bytes:
    """Return the descriptor of a link: embedded, or the whole of its own file."""
    if data.startswith(c.SPARSE_MAGICNUMBER):
        size = c.SPARSE_EXTENT_HEADER.unpack_from(data)[6]  # descriptorSize
        data = data[c.SECTOR :][: size * c.SECTOR]
    return data.partition(b"\0")[0]


def new_text(link: bytes, choose: Random) -> bytes:
    """Return the text of `link` with other lines."""
    lines = text_of(link).split(b"\n")
    for _ in range(choose.choice((1, 1, 2, 3))):
        step = choose.randrange(9)
        at = choose.randrange(len(lines))
        if step == 0:
            lines.insert(at, choose.choice(_LINES))
        elif step <= 3:  # another value for the same key
            at = choose.choice([at for at, line in enumerate(lines) if b"=" in line] or [at])
            key = lines[at].partition(b"=")[0]
            lines[at] = choose.choice([line for line in _LINES if line.startswith(key)] or _LINES)
        elif step == 4:
            lines[at] = mutate_bytes(lines[at], choose)
        elif step == 5 and len(lines) > 1:
            del lines[at]
        elif step == 6:
            lines.insert(at, choose.choice(lines))
        elif step == 7:
            key = lines[at].partition(b"=")[0]
            lines[at] = key + b"=" + choose.choice(_LINES).rpartition(b"=")[2]
        else:
            lines += [b"#"] * choose.choice((1, 1000))
    return b"\n".join(lines)[: c.DESCRIPTOR_SIZE * c.SECTOR]


def other_parent(link: bytes, choose: Random) -> bytes:
    """Return the text with another parent: where a chain could be led astray."""
    text = text_of(link)
    before, key, rest = text.partition(_HINT)
    if not key:
        return text + choose.choice((_HINT + b'link-0.vmdk"', b"parentCID=0"))
    return before + choose.choice(_HINTS) + b"\n" + rest.partition(b"\n")[2]
