"""The records of pax extended headers (POSIX.1-2017, "pax Extended Header"), and their values.

Owns how records are written and what may stand in them; which member they belong to is the tar
reader's to know.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Context, Decimal, InvalidOperation
from urllib.parse import unquote_to_bytes

from converter.errors import IntegrityError
from converter.layer import c_tar as c
from converter.layer.entry import SECOND_NS

Records = dict[bytes, bytes]

_SECOND_NS = Decimal(SECOND_NS)
_EXACT = Context(prec=80)  # more digits than time_ns takes: with fewer, it would round up some
_MAX_DIGITS = 20
_XATTR_NAMESPACES = (b"user.", b"trusted.", b"security.")  # xattr(7)
_XATTR_ACLS = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})


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


def integer(records: Records, key: bytes, default: int) -> int:
    """Return the record `key`, a number from 0 on, or `default`. Raises IntegrityError.

    A record without a value is as good as none: POSIX lets it delete what was said before.
    """
    value = records.get(key)
    return decimal(value, key.decode()) if value else default


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
        nanoseconds = _EXACT.multiply(seconds, _SECOND_NS)
        return int(nanoseconds.to_integral_value(rounding="ROUND_FLOOR"))
    except (ValueError, InvalidOperation):
        raise IntegrityError(f"It has a bad modification time: {text[:64]!r}.") from None


def xattrs(records: Records, *, symlink: bool = False) -> tuple[tuple[bytes, bytes], ...]:
    """Return the extended attributes of either dialect, sorted by name. Raises IntegrityError.

    Names of other systems ("com.apple.quarantine") and ACLs of a symbolic link are left out: Linux
    has no place for them (ENOTSUP), and so every unpacker goes on without.
    """
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
    if not found:
        return ()
    for name in found:
        if b"\0" in name:
            raise IntegrityError(
                f"It has the extended attribute {name[:255]!r}.", expected="a name without NUL"
            )
    return tuple(
        sorted(
            (name, value)
            for name, value in found.items()
            if name.startswith(_XATTR_NAMESPACES) or (name in _XATTR_ACLS and not symlink)
        )
    )


def _malformed() -> IntegrityError:
    return IntegrityError("The archive has a malformed pax header.")
