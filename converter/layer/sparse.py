"""Where a sparse member's data goes. Owns the four ways in which GNU tar writes a map of a file.

A map says which stretches of the file are stored; the rest are holes. Old GNU headers carry it in
the header and in blocks behind it, pax formats 0.0 and 0.1 in records, 1.0 in front of the data.
(GNU tar's manual, "Storing Sparse Files") All of them are hostile until checked: a segment is never
below the end of the one before it nor beyond the end of the file, and their number is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from converter.errors import IntegrityError
from converter.layer import c_tar as c
from converter.layer.entry import Segments
from converter.layer.pax import Records, decimal, integer
from converter.layer.ustar import number

MAX_SEGMENTS = 1 << 17
_NO_SPARSE = bytes(c.SPARSE.size)
_MAX_LINE_BYTES = 21  # twenty digits and what is left of a line that has no end yet


class SparseFile(NamedTuple):
    """What a map says: the file's size with its holes, the segments, the bytes of the map.

    `map_bytes` are those that stand in front of the data and count as the member's data.
    """

    size: int
    segments: Segments | None
    map_bytes: int = 0


Read = Callable[[int], bytes]  # as a file's: fewer bytes than asked for only at the end


def has_map(records: Records) -> bool:
    """Tell whether a member is sparse by its pax records."""
    return any(key.startswith(c.PAX_SPARSE) for key in records)


def read_sparse(header: bytes, records: Records, read: Read, stored: int) -> SparseFile:
    """Return the map of a sparse member whose data has `stored` bytes.

    `read` gives what follows the header, and is left at the first byte of a segment. Raises
    IntegrityError.
    """
    if not has_map(records):
        size, pairs, map_bytes = *_read_oldgnu(header, read), 0
    elif c.PAX_SPARSE_MAJOR in records:
        version = records[c.PAX_SPARSE_MAJOR], records.get(c.PAX_SPARSE_MINOR)
        if version != (b"1", b"0"):
            raise IntegrityError(
                f"It is sparse in an unknown format: {version}.", expected="0.0, 0.1 or 1.0"
            )
        size = integer(records, c.PAX_SPARSE_REALSIZE, 0)
        pairs, map_bytes = _read_map(read, stored)
    else:
        size = integer(records, c.PAX_SPARSE_SIZE, 0)
        pairs, map_bytes = _record_map(records), 0
    segments = _checked(pairs, size)
    listed = sum(length for _, length in segments)
    if listed != stored - map_bytes:
        raise IntegrityError(
            f"Its sparse map lists {listed} bytes, {stored - map_bytes} are stored.",
        )
    return SparseFile(size, None if listed == size else segments, map_bytes)


def _read_oldgnu(header: bytes, read: Read) -> tuple[int, list[tuple[int, int]]]:
    sp, isextended, realsize = c.OLDGNU_HEADER_SPARSE.unpack(header)
    pairs = list(_sparses(sp))
    while isextended != b"\0":
        block = read(c.BLOCK_SIZE)
        if len(block) < c.BLOCK_SIZE:
            raise IntegrityError("The archive ends in the middle of a sparse map.")
        sp, isextended = c.SPARSE_HEADER.unpack(block)
        pairs.extend(_sparses(sp))
        _check_count(len(pairs))
    return number(realsize), pairs


def _sparses(sp: bytes) -> Iterator[tuple[int, int]]:
    for at in range(0, len(sp), c.SPARSE.size):
        if sp.startswith(_NO_SPARSE, at):
            return
        offset, numbytes = c.SPARSE.unpack_from(sp, at)
        yield number(offset), number(numbytes)


def _record_map(records: Records) -> list[tuple[int, int]]:
    written = records.get(c.PAX_SPARSE_MAP)
    numbers = [decimal(part, "sparse map") for part in written.split(b",")] if written else []
    if len(numbers) % 2:
        raise IntegrityError("Its sparse map has an offset without a length.")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_map(read: Read, stored: int) -> tuple[list[tuple[int, int]], int]:
    """Read the map of 1.0: lines with their number, then offset and length of each."""
    numbers: list[int] = []
    wanted = 1
    map_bytes = 0
    rest = b""
    while len(numbers) < wanted:
        block = read(c.BLOCK_SIZE)
        map_bytes += c.BLOCK_SIZE
        if map_bytes > stored or len(block) < c.BLOCK_SIZE or len(rest) > _MAX_LINE_BYTES:
            raise IntegrityError("Its sparse map has no end.")
        *lines, rest = (rest + block).split(b"\n")
        if not numbers and lines:
            count = decimal(lines.pop(0), "sparse map")
            _check_count(count)
            numbers.append(count)
            wanted += 2 * count
        numbers += [decimal(line, "sparse map") for line in lines[: wanted - len(numbers)]]
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), map_bytes


def _check_count(count: int) -> None:
    if count > MAX_SEGMENTS:
        raise IntegrityError(
            f"Its sparse map has {count} or more segments.", expected=f"at most {MAX_SEGMENTS}"
        )


def _checked(pairs: Iterable[tuple[int, int]], size: int) -> Segments:
    """Return the segments that are not empty. Writers end a map with an empty one at the end."""
    pairs = list(pairs)
    _check_count(len(pairs))
    for offset, length in pairs:
        if offset < 0 or length < 0 or offset + length > size:
            raise IntegrityError(
                f"Its sparse map has {length} bytes at {offset}.",
                expected=f"segments within its size of {size} bytes",
            )
    for (offset, length), (following, _) in pairwise(pairs):
        if following < offset + length:
            raise IntegrityError(
                f"Its sparse map has a segment at {following} after one that ends at "
                f"{offset + length}.",
                expected="segments in ascending order, none over another",
            )
    return tuple(pair for pair in pairs if pair[1])
