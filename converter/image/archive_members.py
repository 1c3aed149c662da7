"""The members of a tar archive by their names: where each file's bytes lie, and what links mean.

For archives of images, which are small in members and large in bytes: only headers are read. The
format's fields are those of `converter.layer`, which reads layers; here nothing else of a member
counts but name, place and size. An archive that could mean two things is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from converter.errors import IntegrityError
from converter.layer import c_tar as c
from converter.layer.pax import Records, integer, parse_records
from converter.layer.sparse import has_map
from converter.layer.ustar import check_sum, number, text

ReadAt = Callable[[int, int], bytes]  # (offset, size) -> at most so many bytes

MAX_MEMBERS = 100_000  # docker writes four for each layer of each image
MAX_NAME_BYTES = 512  # docker's have 75
MAX_EXTENDED_HEADER_BYTES = 64 << 10
MAX_EXTENDED_HEADERS = 8  # in front of one member
MAX_LINKS = 8  # followed one after the other

_ZERO_BLOCK = bytes(c.BLOCK_SIZE)
_FILES = frozenset({c.REGTYPE, c.AREGTYPE, c.CONTTYPE})
_PAX = frozenset({c.PAX_HEADER, c.SOLARIS_HEADER})
_LONG = {c.GNU_LONGNAME: b"path", c.GNU_LONGLINK: b"linkpath"}
_DECIDING = frozenset({b"path", b"linkpath", b"size"})


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file: its bytes in the archive; or a link: the text of its `target`.

    `symbolic` tells a target that is relative to the link's folder from one that is a member.
    """

    offset_bytes: int
    size_bytes: int
    target: str | None = None
    symbolic: bool = False


def read_members(read_at: ReadAt, size_bytes: int, *, what: str) -> dict[str, Member]:
    """Return the regular files and links of an archive of `size_bytes` bytes, by name.

    Names have no "./" in front. Other members are passed over, for nothing in an image's archive is
    one. Raises IntegrityError, in which `what` names the archive, for one that is damaged,
    truncated, too large to be an image's, or names a file twice.
    """
    members: dict[str, Member] = {}
    position = count = 0
    name = ""
    try:
        while (found := _next_header(read_at, position)) is not None:
            header, records, position = found
            name = ""
            fields = c.HEADER.unpack(header)
            name = _name(_path(fields, records))
            count += 1
            if count > MAX_MEMBERS:
                raise IntegrityError(
                    f"It has more than {MAX_MEMBERS} members.", expected="an archive of images"
                )
            member, stored_bytes = _member(fields, records, position)
            if position + stored_bytes > size_bytes:
                raise _truncated()
            position += _padded(stored_bytes)
            if member is None:
                continue
            if name in members:
                raise IntegrityError("It is there twice.", expected="one member of each name")
            members[name] = member
    except IntegrityError as error:
        error.add_context(f"{what}, member {name!a}" if name else what)
        raise
    return members


def follow(members: Mapping[str, Member], name: str, *, what: str) -> Member | None:
    """Return the regular file that `name` stands for, through links, or None if there is none.

    Raises IntegrityError, in which `what` names the archive, for links that lead out of it, nowhere
    or in circles.
    """
    member = members.get(name)
    at = name
    for _ in range(MAX_LINKS):
        if member is None or member.target is None:
            return member
        folder = at.split("/")[:-1] if member.symbolic else []
        resolved = _resolve(folder, member.target)
        if resolved is None or resolved not in members:
            raise IntegrityError(
                f"{what}, member {name!a}: it is a link to {member.target!a}, "
                f"which is {'outside of' if resolved is None else 'not in'} the archive."
            )
        at, member = resolved, members[resolved]
    raise IntegrityError(
        f"{what}, member {name!a}: its links lead in a circle.",
        expected=f"at most {MAX_LINKS} links to a file",
    )


def _next_header(read_at: ReadAt, position: int) -> tuple[bytes, Records, int] | None:
    """Return the next member's header, what stands before it, and where its data begins."""
    records: Records = {}
    for _ in range(MAX_EXTENDED_HEADERS + 1):
        header = read_at(position, c.BLOCK_SIZE)
        if len(header) < c.BLOCK_SIZE:
            # Readers of layers do without an end marker, for they have a digest. Here it is all
            # that tells a whole archive from one of which the last members were lost.
            raise _truncated()
        if header == _ZERO_BLOCK:
            if records:
                raise _truncated()
            return None
        fields = c.HEADER.unpack(header)
        check_sum(header, fields[6])
        position += c.BLOCK_SIZE
        typeflag = fields[7]
        if typeflag not in _LONG and typeflag not in _PAX and typeflag != c.PAX_GLOBAL_HEADER:
            return header, records, position
        size = number(fields[4])
        if not 0 <= size <= MAX_EXTENDED_HEADER_BYTES:
            raise IntegrityError(
                f"An extended header is to have {size} bytes.",
                expected=f"at most {MAX_EXTENDED_HEADER_BYTES}",
            )
        data = read_at(position, size)
        if len(data) < size:
            raise _truncated()
        position += _padded(size)
        if typeflag in _LONG:
            records[_LONG[typeflag]] = data.rstrip(b"\0")
        elif typeflag in _PAX:
            records.update(parse_records(data))
        elif not _DECIDING.isdisjoint(parse_records(data)):
            raise IntegrityError("A global header gives all members one name or size.")
    raise IntegrityError(
        "It has too many extended headers in a row.", expected=f"at most {MAX_EXTENDED_HEADERS}"
    )


def _member(
    fields: tuple[bytes, ...], records: Records, position: int
) -> tuple[Member | None, int]:
    """Return the member, None if it is neither file nor link, and how many bytes follow it."""
    typeflag, linkname = fields[7], fields[8]
    size = integer(records, b"size", number(fields[4]))
    if size < 0:
        raise IntegrityError(f"It claims a size of {size} bytes.")
    if typeflag == c.GNU_SPARSE or has_map(records):
        raise IntegrityError("It is a sparse file.", expected="files without holes in the archive")
    if typeflag in _FILES:
        if typeflag == c.AREGTYPE and fields[0].partition(b"\0")[0].endswith(b"/"):
            return None, 0  # a folder of a tar from before POSIX
        return Member(position, size), size
    if typeflag in {c.SYMTYPE, c.LNKTYPE}:
        target = _text(records.get(b"linkpath", text(linkname)), "target")
        return Member(position, 0, target, symbolic=typeflag == c.SYMTYPE), 0
    return None, 0  # POSIX: the size of other types has no data behind it


def _path(fields: tuple[bytes, ...], records: Records) -> bytes:
    if b"path" in records:
        return records[b"path"]
    name, prefix = text(fields[0]), text(fields[12])
    return prefix + b"/" + name if prefix and fields[9].startswith(c.USTAR_MAGIC) else name


def _name(raw: bytes) -> str:
    name = _resolve([], _text(raw, "name"))
    if name is None or b".." in raw.split(b"/"):
        raise IntegrityError(
            f"A member is called {raw!a}.", expected="names that stay in the archive"
        )
    return name


def _text(raw: bytes, what: str) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise IntegrityError(
            f"A member's {what} has {len(raw)} bytes.", expected=f"at most {MAX_NAME_BYTES}"
        )
    return raw.decode("utf-8", "surrogateescape")


def _resolve(folder: list[str], path: str) -> str | None:
    """Return where `path` leads from `folder`, by its text; None if that is out of the archive."""
    parts = list(folder)
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _padded(size: int) -> int:
    return size + -size % c.BLOCK_SIZE


def _truncated() -> IntegrityError:
    return IntegrityError("The archive ends in the middle.", hint="Make it or fetch it again.")
