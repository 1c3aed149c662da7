"""The records of pax extended headers (POSIX.1-2017, "pax Extended Header"), and their values.

Owns how records are written and what may stand in them; which member they belong to is the tar
reader's to know.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal, InvalidOperation
from urllib.parse import unquote_to_bytes

from converter.errors import IntegrityError
from converter.layer import c_tar as c

Records = dict[bytes, bytes]

MAX_GLOBAL_RECORDS = 256
MAX_GLOBAL_BYTES = 64 << 10
_NANOSECONDS = 10**9
_MAX_DIGITS = 20
_GLOBAL_KEYS = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})
_GLOBAL_PREFIXES = (c.PAX_XATTR_SCHILY, c.PAX_XATTR_LIBARCHIVE)


def parse_records(data: bytes) -> Records:
    """Return the records "length key=value\\n" of a pax header. A later record wins.

    Only the keys of a sparse map 0.0 mean something when repeated; they become one record of 0.1.
    Raises IntegrityError.
    """
    records: Records = {}
    sparse: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + _MAX_DIGITS)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise _malformed()
        end = position + int(digits)
        equals = data.find(b"=", space + 1, end)
        if equals < 0 or end > len(data) or data[end - 1 : end] != b"\n":
            raise _malformed()
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if key in (c.PAX_SPARSE_OFFSET, c.PAX_SPARSE_NUMBYTES):
            sparse.append(value)
        else:
            records[key] = value
        position = end
    if sparse:
        records[c.PAX_SPARSE_MAP] = b",".join(sparse)
    return records


def add_global(known: Records, new: Records) -> None:
    """Add what `new` says about all members to `known`. Raises IntegrityError for too much of it.

    Records that no member could use are dropped, the rest is bounded: each member pays for them.
    """
    known.update(
        (key, value)
        for key, value in new.items()
        if key in _GLOBAL_KEYS or key.startswith(_GLOBAL_PREFIXES)
    )
    size_bytes = sum(len(key) + len(value) for key, value in known.items())
    if len(known) > MAX_GLOBAL_RECORDS or size_bytes > MAX_GLOBAL_BYTES:
        raise IntegrityError(
            f"The archive has {len(known)} global records of {size_bytes} bytes.",
            expected=f"at most {MAX_GLOBAL_RECORDS} records of {MAX_GLOBAL_BYTES} bytes",
        )


def integer(records: Records, key: bytes, default: int) -> int:
    """Return the record `key`, a number from 0 on, or `default`. Raises IntegrityError."""
    value = records.get(key)
    return default if value is None else decimal(value, key.decode())


def decimal(text: bytes, what: str) -> int:
    """Return a number that stands in decimal digits. Raises IntegrityError, with `what` it is."""
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise IntegrityError(f"It has a bad {what}: {text[:64]!r}.")
    return int(text)


def time_ns(text: bytes) -> int:
    """Return a time ("-12.5") in nanoseconds, rounded down as POSIX asks. Raises IntegrityError."""
    try:
        if len(text) > 64:
            raise ValueError
        seconds = Decimal(text.decode("ascii"))
        if not seconds.is_finite() or abs(seconds) > 2**62:
            raise ValueError
        return int((seconds * _NANOSECONDS).to_integral_value(rounding="ROUND_FLOOR"))
    except (ValueError, InvalidOperation):
        raise IntegrityError(f"It has a bad modification time: {text[:64]!r}.") from None


def xattrs(records: Records) -> tuple[tuple[bytes, bytes], ...]:
    """Return the extended attributes of either dialect, sorted by name. Raises IntegrityError."""
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(c.PAX_XATTR_SCHILY):
            found[key[len(c.PAX_XATTR_SCHILY) :]] = value
        elif key.startswith(c.PAX_XATTR_LIBARCHIVE):
            name = unquote_to_bytes(key[len(c.PAX_XATTR_LIBARCHIVE) :])
            try:
                decoded = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error as error:
                raise IntegrityError(f"It has an unreadable attribute {name[:255]!r}.") from error
            found.setdefault(name, decoded)
    return tuple(sorted(found.items()))


def _malformed() -> IntegrityError:
    return IntegrityError("The archive has a malformed pax header.")
