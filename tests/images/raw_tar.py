"""Tar headers field by field, for archives that no archiver would write. Knows no rule of tar.

Every field is given as its bytes; only the checksum is computed, unless it is given too.
"""

from __future__ import annotations

_FIELDS = {  # name -> (offset, size): POSIX.1-2017, "ustar Interchange Format"
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "chksum": (148, 8),
    "typeflag": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8),
    "devmajor": (329, 8),
    "devminor": (337, 8),
    "prefix": (345, 155),
    "sparse": (386, 109),  # GNU: sp, isextended, realsize
}


def header(name: bytes, typeflag: bytes = b"0", *, size: int | bytes = 0, **fields: bytes) -> bytes:
    """Return a header; `size` as a number is written in octal digits or, if large, in base 256."""
    values = {
        "name": name,
        "typeflag": typeflag,
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": number(size) if isinstance(size, int) else size,
        "mtime": number(0),
        "chksum": b" " * 8,
        "magic": b"ustar\x0000",
        **fields,
    }
    block = bytearray(512)
    for field, value in values.items():
        offset, room = _FIELDS[field]
        if len(value) > room:
            raise ValueError(f"{field} has room for {room} bytes")
        block[offset : offset + len(value)] = value
    if "chksum" not in fields:
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def number(value: int, room: int = 12) -> bytes:
    """Return a numeric field of `room` bytes: octal digits, or base 256 where they do not do."""
    if 0 <= value < 8 ** (room - 1):
        return b"%0*o\0" % (room - 1, value)
    mark = b"\x80" if value >= 0 else b"\xff"
    return mark + (value % (1 << 8 * (room - 1))).to_bytes(room - 1, "big")


def padded(data: bytes) -> bytes:
    """Return `data` with zeros up to a whole block."""
    return data + bytes(-len(data) % 512)


def pax(records: list[tuple[str, object]], typeflag: bytes = b"x") -> bytes:
    """Return an extended header with `records`, in their order, repeated ones too."""
    packed = b"".join(_record(key, value) for key, value in records)
    return header(b"PaxHeaders/0", typeflag, size=len(packed)) + padded(packed)


def _record(key: str, value: object) -> bytes:
    body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body
