"""A tar stream as entries. Owns the archive format; knows nothing of layers' whiteouts.

Nothing is ever extracted: members become `Entry` values whose data is read straight from the
stream. The parser takes any iterable of byte chunks, so it can be tested byte by byte. Everything
in the stream is hostile: sizes are bounded before anything is buffered, and every fault is an
`IntegrityError` that names the member.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from urllib.parse import unquote_to_bytes

from converter.errors import IntegrityError
from converter.layer import c_tar as c
from converter.layer.entry import Entry, Kind

MAX_EXTENDED_HEADER_BYTES = 1 << 20  # a pax header or GNU long name; real ones stay below 64 KiB
MAX_PATH_BYTES = 64 << 10
MAX_NAME_BYTES = 255  # the file system's limit for one component
MAX_FILE_BYTES = 1 << 44  # ext4's limit with 4 KiB blocks
MAX_ID = 2**32 - 2  # 2^32 - 1 means "no change" to chown(2)

_ADLER = 65521
_ZERO_BLOCK = bytes(c.BLOCK_SIZE)
_NANOSECONDS = 10**9

_KINDS = {
    c.REGTYPE: Kind.FILE,
    c.AREGTYPE: Kind.FILE,
    c.CONTTYPE: Kind.FILE,
    c.LNKTYPE: Kind.HARDLINK,
    c.SYMTYPE: Kind.SYMLINK,
    c.CHRTYPE: Kind.CHARACTER,
    c.BLKTYPE: Kind.BLOCK,
    c.DIRTYPE: Kind.DIRECTORY,
    c.FIFOTYPE: Kind.FIFO,
}


def normalise(path: bytes) -> bytes:
    """Return `path` as an `Entry` has it: relative to the root, dots resolved, never above it.

    `..` is resolved by its text and stops at the root, as umoci and containerd do. Raises
    IntegrityError for a name that no file system could hold.
    """
    if b"\0" in path:
        raise IntegrityError(f"A path in the archive contains a NUL byte: {path[:200]!r}.")
    if len(path) > MAX_PATH_BYTES:
        raise IntegrityError(
            f"A path in the archive is {len(path)} bytes long: {path[:80]!r}...",
            expected=f"at most {MAX_PATH_BYTES} bytes",
        )
    components: list[bytes] = []
    for component in path.split(b"/"):
        if component in {b"", b"."}:
            continue
        if component == b"..":
            if components:
                components.pop()
            continue
        if len(component) > MAX_NAME_BYTES:
            raise IntegrityError(
                f"A name in the archive is {len(component)} bytes long: {component[:80]!r}...",
                expected=f"at most {MAX_NAME_BYTES} bytes, the file system's limit",
            )
        components.append(component)
    return b"/".join(components)


class _ChunkReader:
    """Exact reads from an iterable of chunks; data is handed out as views, without a copy."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._view = memoryview(b"")
        self._position = 0

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._view = memoryview(chunk)
                self._position = 0
                return True
        return False

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end of the stream."""
        start = self._position
        end = start + size
        if end <= len(self._view):
            self._position = end
            return bytes(self._view[start:end])
        return b"".join(self.views(size))

    def views(self, size: int) -> Iterator[memoryview]:
        """Yield views that are `size` bytes in all, or fewer at the end of the stream."""
        while size:
            start = self._position
            available = len(self._view) - start
            if not available:
                if not self._refill():
                    return
                continue
            taken = min(size, available)
            self._position = start + taken
            size -= taken
            yield self._view[start : start + taken]


class _MemberData:
    """The bytes of one regular file, counted so that the reader knows what is left to skip."""

    __slots__ = ("_path", "_reader", "remaining")

    def __init__(self, reader: _ChunkReader, size: int, path: bytes) -> None:
        self._reader = reader
        self._path = path
        self.remaining = size

    def __iter__(self) -> Iterator[memoryview]:
        for view in self._reader.views(self.remaining):
            self.remaining -= len(view)
            yield view
        if self.remaining:
            raise _truncated(self._path)


def read_entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the members of the tar archive `chunks` in order, up to its end-of-archive marker.

    An entry's data must be read before the next entry is asked for; what is left is skipped.
    An archive without end marker is accepted, as every reader does. Raises IntegrityError.
    """
    reader = _ChunkReader(chunks)
    global_records: dict[bytes, bytes] = {}
    records: dict[bytes, bytes] = {}
    while True:
        header = reader.read(c.BLOCK_SIZE)
        if len(header) < c.BLOCK_SIZE:
            if header:
                raise _truncated(b"(header)")
            return
        if header == _ZERO_BLOCK:
            return
        fields = c.HEADER.unpack(header)
        _check_sum(header, fields)
        typeflag: bytes = fields[7]
        if typeflag in {c.PAX_HEADER, c.SOLARIS_HEADER}:
            records.update(_parse_pax(_extended(reader, fields)))
        elif typeflag == c.PAX_GLOBAL_HEADER:
            global_records.update(_parse_pax(_extended(reader, fields)))
        elif typeflag == c.GNU_LONGNAME:
            records[b"path"] = _extended(reader, fields).rstrip(b"\0")
        elif typeflag == c.GNU_LONGLINK:
            records[b"linkpath"] = _extended(reader, fields).rstrip(b"\0")
        else:
            merged = {**global_records, **records} if global_records else records
            entry, data, stored = _member(reader, fields, merged)
            records = {}
            yield entry
            for view in reader.views(data.remaining):
                data.remaining -= len(view)
            padding = -stored % c.BLOCK_SIZE
            if data.remaining or len(reader.read(padding)) < padding:
                raise _truncated(entry.path)


def _member(
    reader: _ChunkReader, fields: tuple[bytes, ...], records: dict[bytes, bytes]
) -> tuple[Entry, _MemberData, int]:
    """Return the entry, its data, and the number of bytes stored in the archive for it."""
    typeflag = fields[7]
    raw_path = records.get(b"path")
    if raw_path is None:
        raw_path = _text(fields[0])
        if fields[9] == c.USTAR_MAGIC:
            prefix = _text(fields[14])
            if prefix:
                raw_path = prefix + b"/" + raw_path
    path = normalise(raw_path)
    kind = _KINDS.get(typeflag)
    if kind is None or any(key.startswith(c.PAX_SPARSE) for key in records):
        what = "a sparse file" if kind or typeflag == c.GNU_SPARSE else f"of type {typeflag!r}"
        raise IntegrityError(
            f"The archive member {_show(path)} is {what}, which this version does not read.",
            expected="files, directories, links, devices and FIFOs",
        )
    if kind is Kind.FILE and typeflag == c.AREGTYPE and raw_path.endswith(b"/"):
        kind = Kind.DIRECTORY

    size = _pax_or_field(records, b"size", fields[4], path)
    if not 0 <= size <= MAX_FILE_BYTES:
        raise IntegrityError(f"The archive member {_show(path)} claims a size of {size} bytes.")
    stored = size if kind is Kind.FILE else 0
    if size and not stored:
        # POSIX: the size of other types has no data behind it, except that some writers gave
        # directories and links one; data that is not there would be misread as headers.
        size = 0

    target = b""
    if kind in {Kind.SYMLINK, Kind.HARDLINK}:
        target = records.get(b"linkpath", _text(fields[8]))
        if kind is Kind.HARDLINK:
            target = normalise(target)
        elif not 0 < len(target) < 4096 or b"\0" in target:
            raise IntegrityError(
                f"The symbolic link {_show(path)} has a target of {len(target)} bytes.",
                expected="1 to 4095 bytes without NUL",
            )
    mtime = records.get(b"mtime")
    data = _MemberData(reader, stored, path)
    return (
        Entry(
            path,
            kind,
            _number(fields[1], path) & 0o7777,
            _owner(records, b"uid", fields[2], path),
            _owner(records, b"gid", fields[3], path),
            _number(fields[5], path) * _NANOSECONDS if mtime is None else _pax_time(mtime, path),
            size,
            target,
            _number(fields[12], path) if kind in {Kind.CHARACTER, Kind.BLOCK} else 0,
            _number(fields[13], path) if kind in {Kind.CHARACTER, Kind.BLOCK} else 0,
            _xattrs(records, path) if records else (),
            data,
        ),
        data,
        stored,
    )


def _check_sum(header: bytes, fields: tuple[bytes, ...]) -> None:
    """Compare the header's checksum: the sum of its bytes with the field itself taken as spaces.

    Adler-32's low half is one plus that sum modulo 65521 and runs at C speed, eight times as fast
    as sum(); the modulus hides nothing, since a sum of 512 bytes stays below 2 x 65521.
    """
    chksum = fields[6]
    claimed = _number(chksum, b"(header)")
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(chksum) + c.CHKSUM_SIZE * 0x20
    if (total - claimed) % _ADLER and claimed != _signed_sum(header):
        raise IntegrityError(
            f"The archive has a header with a wrong checksum near {_show(_text(fields[0]))}.",
            expected="a sound tar archive",
            hint="Pull the layer again; if that does not help, the image was built broken.",
        )


def _signed_sum(header: bytes) -> int:
    """Sum the header as some historic tars did, with bytes above 127 taken as negative."""
    outside = header[: c.CHKSUM_OFFSET] + header[c.CHKSUM_OFFSET + c.CHKSUM_SIZE :]
    return sum(byte - 256 if byte > 127 else byte for byte in outside) + c.CHKSUM_SIZE * 0x20


def _extended(reader: _ChunkReader, fields: tuple[bytes, ...]) -> bytes:
    size = _number(fields[4], b"(extended header)")
    if not 0 <= size <= MAX_EXTENDED_HEADER_BYTES:
        raise IntegrityError(
            f"The archive has an extended header of {size} bytes.",
            expected=f"at most {MAX_EXTENDED_HEADER_BYTES}",
        )
    stored = reader.read(size + -size % c.BLOCK_SIZE)
    if len(stored) < size:
        raise _truncated(b"(extended header)")
    return stored[:size]


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records "length key=value\\n" of a pax header. A later record wins."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise IntegrityError("The archive has a malformed pax header.")
        end = position + int(digits)
        equals = data.find(b"=", space + 1, end)
        if equals < 0 or end > len(data) or data[end - 1 : end] != b"\n":
            raise IntegrityError("The archive has a malformed pax header.")
        records[data[space + 1 : equals]] = data[equals + 1 : end - 1]
        position = end
    return records


def _xattrs(records: dict[bytes, bytes], path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(c.PAX_XATTR_SCHILY):
            found[key[len(c.PAX_XATTR_SCHILY) :]] = value
        elif key.startswith(c.PAX_XATTR_LIBARCHIVE):
            name = unquote_to_bytes(key[len(c.PAX_XATTR_LIBARCHIVE) :])
            try:
                decoded = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error as error:
                raise IntegrityError(
                    f"The archive member {_show(path)} has an unreadable attribute {name!r}."
                ) from error
            found.setdefault(name, decoded)
    return tuple(sorted(found.items()))


def _number(field: bytes, path: bytes) -> int:
    """Return a numeric header field: octal digits, or GNU's base-256 form."""
    first = field[0]
    if first in {c.BASE256_POSITIVE, c.BASE256_NEGATIVE}:
        value = int.from_bytes(field[1:], "big")
        if first == c.BASE256_NEGATIVE:
            value -= 1 << (8 * (len(field) - 1))
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        return int(digits, 8)
    except ValueError:
        raise IntegrityError(
            f"The archive member {_show(path)} has a header field that is no number: {field!r}."
        ) from None


def _pax_or_field(records: dict[bytes, bytes], key: bytes, field: bytes, path: bytes) -> int:
    value = records.get(key)
    if value is None:
        return _number(field, path)
    if not value.isdigit() or len(value) > 20:
        raise IntegrityError(
            f"The archive member {_show(path)} has a bad {key.decode()}: {value!r}."
        )
    return int(value)


def _owner(records: dict[bytes, bytes], key: bytes, field: bytes, path: bytes) -> int:
    value = _pax_or_field(records, key, field, path)
    if not 0 <= value <= MAX_ID:
        raise IntegrityError(
            f"The archive member {_show(path)} has the {key.decode()} {value}.",
            expected=f"0 to {MAX_ID}",
        )
    return value


def _pax_time(value: bytes, path: bytes) -> int:
    """Return a pax time ("-12.5") in nanoseconds, rounded down as POSIX asks."""
    try:
        if len(value) > 64:
            raise ValueError
        seconds = Decimal(value.decode("ascii"))
        if not seconds.is_finite() or abs(seconds) > 2**62:
            raise ValueError
        return int((seconds * _NANOSECONDS).to_integral_value(rounding="ROUND_FLOOR"))
    except (ValueError, InvalidOperation):
        raise IntegrityError(
            f"The archive member {_show(path)} has a bad modification time: {value[:64]!r}."
        ) from None


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _show(path: bytes) -> str:
    return "'" + path[:200].decode("utf-8", "backslashreplace") + "'"


def _truncated(path: bytes) -> IntegrityError:
    return IntegrityError(
        f"The archive ends in the middle of {_show(path)}.", hint="Pull the layer again."
    )
