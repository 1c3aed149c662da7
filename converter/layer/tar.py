"""A tar stream as entries. Owns the archive format; knows nothing of layers' whiteouts.

Nothing is ever extracted: members become `Entry` values whose data is read straight from the
stream. The parser takes any iterable of byte chunks, so it can be tested byte by byte. Everything
in the stream is hostile: sizes are bounded before anything is buffered, and every fault is an
`IntegrityError` that names the member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from converter.errors import IntegrityError
from converter.layer import c_tar as c
from converter.layer.entry import SECOND_NS, Entry, Kind, Segments
from converter.layer.limits import DEFAULT_LIMITS, Limits
from converter.layer.paths import normalise, show
from converter.layer.pax import Records, integer, parse_records, time_ns, xattrs
from converter.layer.sparse import has_map, read_sparse
from converter.layer.ustar import check_sum, number, text

MAX_EXTENDED_HEADER_BYTES = 1 << 20  # all of one member's; real ones stay below 64 KiB
MAX_EXTENDED_HEADERS = 16  # in front of one member; nobody writes more than four
MAX_FILE_BYTES = (1 << 44) - 4096  # ext4's limit with 4 KiB blocks
MAX_SYMLINK_BYTES = 4095
MAX_ID = 2**32 - 2  # 2^32 - 1 means "no change" to chown(2)
SYMLINK_MODE = 0o777  # Linux has no other, whatever an archive says; a hard link has none at all

_ZERO_BLOCK = bytes(c.BLOCK_SIZE)
_FILE_SIZES = f"0 to {MAX_FILE_BYTES} bytes, the file system's limit"

_repeated = lru_cache(maxsize=256)(number)  # modes and owners are the same few in all members

_KINDS = {
    c.REGTYPE: Kind.FILE,
    c.AREGTYPE: Kind.FILE,
    c.CONTTYPE: Kind.FILE,
    c.GNU_SPARSE: Kind.FILE,
    c.LNKTYPE: Kind.HARDLINK,
    c.SYMTYPE: Kind.SYMLINK,
    c.CHRTYPE: Kind.CHARACTER,
    c.BLKTYPE: Kind.BLOCK,
    c.DIRTYPE: Kind.DIRECTORY,
    c.FIFOTYPE: Kind.FIFO,
}
_EXTENDED = {
    c.PAX_HEADER,
    c.SOLARIS_HEADER,
    c.PAX_GLOBAL_HEADER,
    c.GNU_LONGNAME,
    c.GNU_LONGLINK,
}


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
            return self._view[start:end].tobytes()
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

    def view(self, size: int) -> memoryview | None:
        """Return the next `size` bytes if they are at hand in one piece."""
        start = self._position
        end = start + size
        if end > len(self._view):
            return None
        self._position = end
        return self._view[start:end]

    def skip(self, size: int) -> None:
        """Pass over `size` bytes. Raises IntegrityError if there are fewer."""
        end = self._position + size
        if end <= len(self._view):
            self._position = end
        elif sum(map(len, self.views(size))) < size:
            raise _truncated()


class _MemberData:
    """The bytes of one regular file, counted so that the reader knows what is left to skip."""

    __slots__ = ("_path", "_reader", "padding", "remaining")

    def __init__(self, reader: _ChunkReader, size: int, padding: int, path: bytes) -> None:
        self._reader = reader
        self._path = path
        self.remaining = size
        self.padding = padding

    def __iter__(self) -> Iterator[memoryview]:
        view = self._reader.view(self.remaining)
        if view is None:
            return self._pieces()
        self.remaining = 0  # nearly every file: one view, without generators
        return iter((view,))

    def _pieces(self) -> Iterator[memoryview]:
        try:
            for view in self._reader.views(self.remaining):
                self.remaining -= len(view)
                yield view
            if self.remaining:
                raise _truncated()
        except IntegrityError as error:
            error.add_context(f"member {show(self._path)}")
            raise


def read_entries(chunks: Iterable[bytes], limits: Limits = DEFAULT_LIMITS) -> Iterator[Entry]:
    """Yield the members of the tar archive `chunks` in order, up to its end-of-archive marker.

    An entry's data must be read before the next entry is asked for; what is left is skipped.
    An archive without end marker is accepted, as every reader does. Raises IntegrityError.
    """
    reader = _ChunkReader(chunks)
    records: Records = {}
    extended_headers = extended_bytes = entries = 0
    name = b""  # of the header at hand, for errors
    try:
        while len(header := reader.read(c.BLOCK_SIZE)) == c.BLOCK_SIZE and header != _ZERO_BLOCK:
            fields = c.HEADER.unpack(header)
            name = fields[0]
            check_sum(header, fields[6])
            if fields[7] in _EXTENDED:
                extended_headers += 1
                extended_bytes += (size := number(fields[4]))
                _check_extended(extended_headers, size, extended_bytes)
                _extend(fields[7], _extended(reader, size), records)
                continue
            raw_path = _raw_path(fields, records)
            name = raw_path
            entries += 1
            if entries > limits.max_entries:
                raise IntegrityError(
                    f"The layer has more than {limits.max_entries} members.",
                    expected=f"at most {limits.max_entries} (--max-entries)",
                    hint="If you trust the image, allow more with --max-entries.",
                )
            entry, data = _member(reader, header, fields, raw_path, records)
            records = {}
            extended_headers = extended_bytes = 0
            yield entry
            if data is not None:
                reader.skip(data.remaining + data.padding)
            name = b""
        if header == _ZERO_BLOCK:
            _check_end(reader)
        elif header:
            raise _truncated()
    except IntegrityError as error:
        if name:
            error.add_context(f"member {show(text(name))}")
        raise


def _check_end(reader: _ChunkReader) -> None:
    """Refuse what stands behind one zero block: some readers go on there, and some do not."""
    if reader.read(c.BLOCK_SIZE).strip(b"\0"):
        raise IntegrityError(
            "The archive goes on after a single block of zeros.",
            expected="two of them at the end of the archive, and no member behind",
        )


def _check_extended(headers: int, size: int, total_bytes: int) -> None:
    if headers > MAX_EXTENDED_HEADERS or size < 0 or total_bytes > MAX_EXTENDED_HEADER_BYTES:
        raise IntegrityError(
            f"The archive has {headers} extended headers in a row, with {total_bytes} bytes.",
            expected=f"at most {MAX_EXTENDED_HEADERS}, with {MAX_EXTENDED_HEADER_BYTES} bytes",
        )


def _extended(reader: _ChunkReader, size: int) -> bytes:
    stored = reader.read(size + -size % c.BLOCK_SIZE)
    if len(stored) < size:
        raise _truncated()
    return stored[:size]


def _extend(typeflag: bytes, data: bytes, records: Records) -> None:
    """Add what an extended header says to the records of the next member.

    Global headers say nothing here: Go's reader, on which all runtimes build, does not apply them
    to members, and an image must be the same files everywhere.
    """
    if typeflag == c.PAX_GLOBAL_HEADER:
        parse_records(data)  # sound it must be all the same
    elif typeflag == c.GNU_LONGNAME:
        records[c.LONG_NAME] = text(data)
    elif typeflag == c.GNU_LONGLINK:
        records[c.LONG_LINK] = text(data)
    else:
        if records:  # the last of several counts, but a long name stays: as in Go
            for key in records.keys() - {c.LONG_NAME, c.LONG_LINK}:
                del records[key]
        records.update(parse_records(data))


def _raw_path(fields: tuple[bytes, ...], records: Records) -> bytes:
    if records:
        for key in (c.LONG_NAME, c.PAX_SPARSE_NAME, b"path"):
            if path := records.get(key):
                return path
    name, magic, prefix = text(fields[0]), fields[9], fields[12]
    if prefix[0] and (magic.startswith(c.USTAR_MAGIC) or _is_early_go(magic, prefix)):
        return text(prefix) + b"/" + name
    return name


def _is_early_go(magic: bytes, prefix: bytes) -> bool:
    """Tell a header of Go before 1.8, which now and then put a prefix where GNU tar has times."""
    if magic != c.GNU_MAGIC or not text(prefix).isascii():
        return False
    try:
        for field in c.GNU_TIMES.unpack(prefix):
            if field[0]:
                number(field)
    except IntegrityError:
        return True
    return False


def _member(
    reader: _ChunkReader,
    header: bytes,
    fields: tuple[bytes, ...],
    raw_path: bytes,
    records: Records,
) -> tuple[Entry, _MemberData | None]:
    """Return the entry, and its data if it is a file that has any."""
    (
        _, mode, owner, group, length, mtime, _, typeflag, linkname, magic, devmajor, devminor, _
    ) = fields  # fmt: skip
    path = normalise(raw_path)
    kind = _KINDS.get(typeflag)
    if kind is None:
        raise IntegrityError(
            f"It is of type {typeflag!r}, which this version does not read.",
            expected="files, directories, links, devices and FIFOs",
        )
    if kind is Kind.FILE and typeflag == c.AREGTYPE and raw_path.endswith(b"/"):
        kind = Kind.DIRECTORY
    uid, gid, stored = _repeated(owner), _repeated(group), number(length)
    mtime_ns = number(mtime) * SECOND_NS
    if records:
        uid = integer(records, b"uid", uid)
        gid = integer(records, b"gid", gid)
        stored = integer(records, b"size", stored)
        if records.get(b"mtime"):
            mtime_ns = time_ns(records[b"mtime"])
    if not 0 <= uid <= MAX_ID or not 0 <= gid <= MAX_ID:
        raise IntegrityError(f"Its uid is {uid}, its gid {gid}.", expected=f"0 to {MAX_ID}")
    if not 0 <= stored <= MAX_FILE_BYTES:
        raise IntegrityError(f"It claims a size of {stored} bytes.", expected=_FILE_SIZES)

    permissions = _repeated(mode) & 0o7777
    size, target, major, minor = 0, b"", 0, 0
    segments: Segments | None = None
    data = None
    if kind is Kind.FILE:
        size, padding = stored, -stored % c.BLOCK_SIZE
        if typeflag == c.GNU_SPARSE or (records and has_map(records)):
            size, segments, map_bytes = read_sparse(header, records, reader.read, stored)
            if not 0 <= size <= MAX_FILE_BYTES:
                raise IntegrityError(f"It claims a size of {size} bytes.", expected=_FILE_SIZES)
            stored -= map_bytes
        if stored:
            data = _MemberData(reader, stored, padding, path)
    # POSIX: the size of other types has no data behind it, though some writers gave directories and
    # links one; data that is not there would be misread as headers.
    elif kind is Kind.SYMLINK or kind is Kind.HARDLINK:
        long_link = records.get(c.LONG_LINK) or records.get(b"linkpath")
        target = _target(kind, long_link or text(linkname))
        permissions = SYMLINK_MODE
    elif (kind is Kind.CHARACTER or kind is Kind.BLOCK) and magic.startswith(c.MAGICS):
        major, minor = number(devmajor), number(devminor)
        if major < 0 or minor < 0:
            raise IntegrityError(f"It is the device {major}:{minor}.", expected="numbers from 0 on")
    entry = Entry(
        path,
        kind,
        permissions,
        uid,
        gid,
        mtime_ns,
        size,
        target,
        major,
        minor,
        xattrs(records, symlink=kind is Kind.SYMLINK) if records else (),
        data or (),
        segments,
    )
    return entry, data


def _target(kind: Kind, target: bytes) -> bytes:
    if kind is Kind.HARDLINK:
        return normalise(target)
    if not 0 < len(target) <= MAX_SYMLINK_BYTES or b"\0" in target:
        raise IntegrityError(
            f"It is a symbolic link with a target of {len(target)} bytes.",
            expected=f"1 to {MAX_SYMLINK_BYTES} bytes without NUL",
        )
    return target


def _truncated() -> IntegrityError:
    return IntegrityError("The archive ends in the middle.", hint="Pull the layer again.")
