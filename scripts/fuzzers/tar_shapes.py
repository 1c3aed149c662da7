"""Layers made up and varied, member by member. Owns what is worth trying in a tar archive.

Members have right checksums unless a wrong one is what is tried; compressed layers are taken apart,
varied inside, and framed again in one of the ways that their format has.
"""

from __future__ import annotations

import gzip
import zlib
from random import Random

import zstandard

from converter.layer import c_compression as z
from scripts.fuzzers.edits import mutate_bytes
from scripts.fuzzers.tar_frames import frame_gzip, frame_zstd
from tests.images.raw_tar import header, number, padded, pax

BLOCK = 512
MAX_PLAIN_BYTES = 48 << 10
_COMPONENTS = (
    *(b"a", b"a", b"b", b"c", b"d", b"e", b".", b"..", b"", b"\xff\xfe", b"n" * 60, b"n" * 255),
    *(
        b"n" * 256,
        b".wh.a",
        b".wh.b",
        b".wh.d",
        b".wh..wh..opq",
        b".wh..wh.plnk",
        b".wh.",
        b".wh...",
    ),
    *(b".wh..", b"..a", b"a\n", b"l", b"000" + b"n" * 252, b".wh.l"),
)
_LONG_PATHS = (
    *(b"n" * 255, b"n" * 256, b"a/" + b"n" * 256, b"./" * 1000 + b"n" * 256, b"a/" * 2047 + b"a"),
    *(b"a/" * 2048, b"a/" * 500 + b"../" * 600 + b"x", b"x\0y"),
)
_TYPES = (
    b"0",
    b"\0",
    b"7",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"5",
    b"6",
    b"S",
    b"x",
    b"g",
    b"X",
    b"L",
    b"K",
    b"V",
    b"9",
)
_NUMBERS = (
    *(b"", b"0000000\0", b"7777777\0", b"0000644 ", b" 755\0", b"8", b"-1", b"+1", b"0x1", b"1_0"),
    *(
        b"\x80\0\0\0\0\0\0\1",
        b"\xff" * 8,
        b"\xff" + b"\0" * 7,
        b"\x80" + b"\xff" * 7,
        b"\0\0\0\0\0\0\0\0",
    ),
    *(
        b"37777777776",
        b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff",
        b"\x80" + b"\xff" * 11,
        b"00000001000\0",
    ),
)
_VALUES = (
    *(
        b"",
        b"0",
        b"1",
        b"00",
        b"-1",
        b"5",
        b"512",
        b"1024",
        b"4294967294",
        b"4294967295",
        b"99999999999999999999",
    ),
    *(b"999999999999999999999", b"1.5", b"-1.5", b"1e9", b"1e999999", b"nan", b"inf", b"-0", b"+5"),
    *(
        b"1.000000001",
        b"9" * 70,
        "\u0661".encode(),
        b"a",
        b"a/b",
        b"/a",
        b"../x",
        b"a/",
        b"a\0b",
        b"b/x",
    ),
    *(
        b"0,5",
        b"0,5,5,0",
        b"5,3",
        b"0",
        b"0,512,1024,512",
        b"0,3,2,3",
        b"YQ==",
        b"YQ",
        b"!!",
        b"YQ==\n",
    ),
    *(b"x" * 300, b"\2\0\0\0", b"\2\0\0\0\1\0\6\0\xff\xff\xff\xff", b"\1\0\0\0"),
)
_KEYS = (
    *("path", "linkpath", "size", "uid", "gid", "mtime", "atime", "comment", "GNU.sparse.major"),
    *("GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.size"),
    *("GNU.sparse.map", "GNU.sparse.offset", "GNU.sparse.numbytes", "GNU.sparse.numblocks"),
    *("SCHILY.xattr.user.a", "SCHILY.xattr.user.b", "SCHILY.xattr.security.capability"),
    *("SCHILY.xattr.system.posix_acl_access", "SCHILY.xattr.system.posix_acl_default"),
    *("SCHILY.xattr.trusted.x", "SCHILY.xattr.", "SCHILY.xattr.user.", "SCHILY.xattr.other"),
    *("LIBARCHIVE.xattr.user.a", "LIBARCHIVE.xattr.user.%41", "LIBARCHIVE.xattr.%zz"),
)
_FIELDS = (  # offset and size of each field of a header
    *((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (148, 8), (156, 1), (157, 100)),
    *((257, 8), (329, 8), (337, 8), (345, 155), (386, 12), (398, 12), (482, 1), (483, 12)),
)
_END = bytes(2 * BLOCK)


def sample_layers() -> list[bytes]:
    """Return sound layers: every kind of member, every sparse format, every compression."""
    choose = Random(0)
    plain = b"".join(
        [
            header(b"./", b"5", mode=b"0000755\0"),
            header(b"a/", b"5"),
            header(b"a/f", size=5) + padded(b"hello"),
            header(b"old/", b"\0"),
            header(b"e/g", b"1", linkname=b"a/f"),
            header(b"s", b"2", linkname=b"a/f"),
            header(b"null", b"3", devmajor=b"0000001\0", devminor=b"0000003\0"),
            header(b"disk", b"4", devmajor=b"0000400\0", devminor=b"0001000\0"),
            header(b"pipe", b"6"),
            header(b"x", b"7", prefix=b"a/b", size=1) + padded(b"x"),
        ]
    )
    named = b"".join(
        [
            header(b"././@LongLink", b"L", size=201) + padded(b"l" * 100 + b"/" + b"m" * 100),
            header(b"short", size=3) + padded(b"abc"),
            header(b"././@LongLink", b"K", size=150) + padded(b"t" * 150),
            header(b"link", b"2"),
            pax([("comment", "x"), ("mtime", "5.25")], b"g"),
            pax([("path", "p/q"), ("uid", 70000), ("gid", 4000000000), ("mtime", "-1.5")]),
            header(b"ignored", size=2) + padded(b"ab"),
            pax([("SCHILY.xattr.user.a", "1"), ("LIBARCHIVE.xattr.user.b%41", "YQ")]),
            header(b"attributes", size=number(1, 12)) + padded(b"z"),
        ]
    )
    hidden = b"".join(
        [
            header(b"a/.wh.a"),
            header(b"a/b/.wh..wh..opq"),
            header(b".wh.d"),
            header(b"a/b/new", size=1) + padded(b"n"),
            header(b"b/through", size=1) + padded(b"n"),
            *(header(b"l/%d" % number, b"1", linkname=b"a/b/new") for number in range(20)),
            pax([("path", "l/000" + "n" * 252)]) + header(b"x", b"6"),
            pax([("path", "l/.wh.001" + "n" * 252)]) + header(b"x"),
        ]
    )
    led = header(b"q", b"2", linkname=b"a/../e/./g/../f/..") + header(b"q/x")
    slow = pax([("linkpath", "./" * 2000 + "t")]) + header(b"t", b"2") + header(b"t/x")
    sparse = b"".join(sparse_member(kind, choose) for kind in range(4))
    archives = [plain + _END, named + _END, hidden + _END, sparse + _END, hidden, led, slow]
    return [
        *archives,
        b"",
        _END,
        gzip.compress(plain + _END, mtime=0),
        frame_gzip(hidden + _END, choose),
        zstandard.ZstdCompressor().compress(hidden + _END),
        frame_zstd(hidden + _END, choose),
        *(zstandard.ZstdCompressor().compress(bytes(size)) for size in (2 << 20, 5 << 20)),
    ]


# One member


def new_member(choose: Random) -> bytes:
    """Return a member with whatever headers go before it."""
    kind = choose.randrange(10)
    if kind == 0:
        return sparse_member(choose.randrange(4), choose)
    if kind == 1:
        return extension(choose) + plain_member(choose)
    return plain_member(choose)


def plain_member(choose: Random) -> bytes:
    """Return a header and its data."""
    typeflag = choose.choice(_TYPES)
    fields: dict[str, bytes] = {}
    if typeflag in {b"1", b"2"}:
        fields["linkname"] = path(choose)[:100]
    if typeflag in {b"3", b"4"}:
        fields["devmajor"] = choose.choice(_NUMBERS)[:8]
        fields["devminor"] = choose.choice(_NUMBERS)[:8]
    if choose.randrange(6) == 0:
        fields["prefix"] = path(choose)[:155]
    if choose.randrange(6) == 0:
        fields["magic"] = choose.choice((b"ustar  \0", b"", b"ustar\x0000"))
    for name in ("mode", "uid", "gid", "mtime"):
        if choose.randrange(12) == 0:
            fields[name] = choose.choice(_NUMBERS)[: 12 if name == "mtime" else 8]
    has_data = typeflag in {b"0", b"\0", b"7"}
    data = choose.choice((b"", b"x", b"data" * 200, bytes(4096), b"y" * 512)) if has_data else b""
    return header(path(choose)[:100], typeflag, size=len(data), **fields) + padded(data)


def path(choose: Random) -> bytes:
    """Return a path that may exist, lead through links, or be forbidden."""
    if choose.randrange(8) == 0:
        return choose.choice(_LONG_PATHS)
    depth = choose.choice((1, 1, 2, 2, 3, 6))
    return b"/".join(choose.choice(_COMPONENTS) for _ in range(depth))


def extension(choose: Random) -> bytes:
    """Return an extended header of any kind."""
    kind = choose.randrange(8)
    if kind <= 2:
        text = path(choose) * choose.choice((1, 1, 1, 1, 2, 20)) + choose.choice((b"", b"\0"))
        return header(b"long", choose.choice((b"L", b"K")), size=len(text)) + padded(text)
    if kind == 3:
        data = _records(choose)
        data = mutate_bytes(data, choose)
        return header(b"pax", b"x", size=len(data)) + padded(data)
    typeflag = choose.choice((b"x", b"x", b"x", b"g", b"X"))
    data = _records(choose)
    return header(b"pax", typeflag, size=len(data)) + padded(data)


def _records(choose: Random) -> bytes:
    records: list[tuple[str, object]] = []
    for _ in range(choose.choice((1, 1, 2, 3, 5))):
        value = choose.choice((choose.choice(_VALUES), path(choose)))
        keys = choose.choice((_KEYS, _KEYS[:6]))
        records.append((choose.choice(keys), value.decode("utf-8", "surrogateescape")))
    block = pax(records)
    size = int(block[124:135], 8)
    return block[BLOCK : BLOCK + size]


def sparse_member(kind: int, choose: Random) -> bytes:
    """Return a sparse file, sound more often than not: old GNU, pax 0.0, 0.1 and 1.0 as `kind`."""
    count = choose.choice((0, 1, 2, 3, 5, 7, 26))
    pairs, at = [], 0
    for _ in range(count):
        at += choose.choice((0, 512, 4096, 4097, 10000))
        length = choose.choice((0, 1, 512, 600))
        pairs.append((at, length))
        at += length
    size = at + choose.choice((0, 0, 1, 4096))
    if choose.randrange(5) == 0 and pairs:
        pairs[choose.randrange(count)] = (
            choose.choice((0, 1, size, 1 << 40)),
            choose.choice((0, 1, 512)),
        )
    stored = sum(length for _, length in pairs) + choose.choice((0, 0, 0, 0, 1))
    data = padded(bytes([65 + kind]) * min(stored, 1 << 15))
    name = b"sparse%d" % kind
    if kind == 0:
        return _old_gnu(name, pairs, size, stored) + data
    records: list[tuple[str, object]] = [("GNU.sparse.size", size), ("GNU.sparse.numblocks", count)]
    if kind == 1:
        for offset, length in pairs:
            records += [("GNU.sparse.offset", offset), ("GNU.sparse.numbytes", length)]
    elif kind == 2:
        flat = ",".join(f"{offset},{length}" for offset, length in pairs)
        records += [("GNU.sparse.map", flat), ("GNU.sparse.name", name.decode())]
    else:
        lines = [str(count), *(str(each) for pair in pairs for each in pair)]
        table = padded("".join(f"{line}\n" for line in lines).encode())
        records = [("GNU.sparse.major", 1), ("GNU.sparse.minor", choose.choice((0, 0, 0, 0, 1)))]
        records += [("GNU.sparse.name", name.decode()), ("GNU.sparse.realsize", size)]
        stored += len(table)
        data = table + data
    return pax(records) + header(b"GNUSparseFile.0/x", size=stored) + data


def _old_gnu(name: bytes, pairs: list[tuple[int, int]], size: int, stored: int) -> bytes:
    packed = [number(offset) + number(length) for offset, length in pairs]
    first = b"".join(packed[:4]).ljust(96, b"\0")
    more = [packed[at : at + 21] for at in range(4, len(packed), 21)]
    sparse = first + (b"\1" if more else b"\0") + number(size)
    block = header(name, b"S", size=stored, magic=b"ustar  \0", sparse=sparse)
    for index, part in enumerate(more, 1):
        block += (
            b"".join(part).ljust(504, b"\0") + (b"\1" if index < len(more) else b"\0") + bytes(7)
        )
    return block


# Whole layers


def mutate_layer(blob: bytes, choose: Random) -> bytes:
    """Return a variation of a layer, compressed as it was or in another way."""
    kind = choose.randrange(10)
    if kind == 0:
        return mutate_bytes(blob, choose)
    plain = _plain(blob)
    if plain is None:
        return mutate_bytes(blob, choose)
    for _ in range(choose.choice((1, 1, 2, 3))):
        plain = _mutate_members(plain, choose)
    plain = plain[:MAX_PLAIN_BYTES]
    compressed = plain is not blob and not blob.startswith(plain[:8] or b"?")
    if kind == 1 or (compressed and kind < 6):
        framed = choose.choice((frame_gzip, frame_zstd))(plain, choose)
        return mutate_bytes(framed, choose) if choose.randrange(4) == 0 else framed
    return plain


def _plain(blob: bytes) -> bytes | None:
    try:
        if blob.startswith(z.GZIP_MAGIC):
            return zlib.decompressobj(31).decompress(blob, MAX_PLAIN_BYTES)
        if blob.startswith(z.ZSTD_MAGIC):
            return zstandard.ZstdDecompressor().decompressobj().decompress(blob)[:MAX_PLAIN_BYTES]
    except (zlib.error, zstandard.ZstdError):
        return None
    return blob


def _mutate_members(plain: bytes, choose: Random) -> bytes:
    members = _split(plain)
    at = choose.randint(0, len(members))
    step = choose.randrange(15)
    if step <= 3 or not members:
        members.insert(at, new_member(choose))
        return b"".join(members)
    if step in {4, 13, 14}:
        members.insert(at, extension(choose))
        return b"".join(members)
    if step == 12:
        tail = choose.choice((bytes(BLOCK), bytes(100), b"garbage", b"\x1f\x8b", bytes(10240)))
        return b"".join(members) + tail
    at = choose.randrange(len(members))
    if step == 5:
        del members[at]
    elif step == 6:
        members.insert(choose.randint(0, len(members)), members[at])
    elif step == 7:
        members[at] = members[at][: choose.choice((BLOCK, len(members[at]) - 1, 100))]
    elif step == 8 and len(members[at]) > BLOCK:
        members[at] = members[at][:BLOCK] + padded(mutate_bytes(members[at][BLOCK:], choose))
    else:
        members[at] = _mutate_header(members[at], choose)
    return b"".join(members)


def _split(plain: bytes) -> list[bytes]:
    """Cut an archive into members, each a header and its data; the end is one, too."""
    members = []
    at = 0
    while at < len(plain):
        try:
            size = int(plain[at + 124 : at + 136].strip(b" \0") or b"0", 8)
        except ValueError:
            size = 0
        length = BLOCK + -(-min(max(size, 0), 1 << 20) // BLOCK) * BLOCK
        if not plain[at : at + BLOCK].strip(b"\0"):
            length = len(plain) - at
        members.append(plain[at : at + length])
        at += length
    return members


def _mutate_header(member: bytes, choose: Random) -> bytes:
    """Give one field another value; the checksum is right again afterwards, mostly."""
    block = bytearray(member[:BLOCK].ljust(BLOCK, b"\0"))
    offset, size = choose.choice(_FIELDS)
    if size == 1:
        value = choose.choice((*_TYPES, b"\1"))
    elif size >= 100:
        value = choose.choice(
            (path(choose), mutate_bytes(bytes(block[offset : offset + size]), choose))
        )
    else:
        value = choose.choice(
            (
                choose.choice(_NUMBERS),
                number(choose.randrange(2000), size),
                mutate_bytes(bytes(block[offset : offset + size]), choose),
            )
        )
    block[offset : offset + size] = value[:size].ljust(size, b"\0")
    if choose.randrange(12):
        block[148:156] = b" " * 8
        signed = choose.randrange(20) == 0
        total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
        block[148:156] = b"%06o\0 " % max(0, total)
    return bytes(block) + member[BLOCK:]
