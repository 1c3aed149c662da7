"""The descriptor: a disk link's text part. Owns its grammar both ways; does no I/O.

What is rendered is spelt for the strictest reader known, QEMU, which searches the text instead of
parsing it: `version` is the first line that is no comment, "CID" occurs nowhere before the CID's
line, the parent's CID is on the very next line, and no spaces stand around `=` in the header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from converter.errors import IntegrityError, UsageError
from converter.vmdk.c_vmdk import (
    ADAPTER_LSILOGIC,
    CID_DIGITS,
    CID_LONG_ID_ONLY,
    CID_NOPARENT,
    CREATE_TYPE_MONOLITHIC_FLAT,
    CREATE_TYPE_MONOLITHIC_SPARSE,
    CREATE_TYPE_STREAM_OPTIMIZED,
    CREATE_TYPE_VMFS,
    CREATE_TYPE_VMFS_SPARSE,
    DESCRIPTOR_ENCODING,
    DESCRIPTOR_SIGNATURE,
    DESCRIPTOR_SIZE_MAX,
    DESCRIPTOR_VERSION,
    EXTENT_ACCESS_RW,
    EXTENT_TYPE_FLAT,
    EXTENT_TYPE_SPARSE,
    EXTENT_TYPE_VMFS,
    EXTENT_TYPE_VMFS_SPARSE,
    FILE_NAME_BYTES_MAX,
    GEOMETRY_CYLINDERS_MAX,
    GEOMETRY_HEADS,
    GEOMETRY_SECTORS,
    LONG_CONTENT_ID_DIGITS,
    SECTOR,
    VIRTUAL_HW_VERSION,
)

_LINES_MAX = 1000  # a hostile text of short lines ends here
_HEADER_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_DDB_LINE = re.compile(r"(ddb\.[A-Za-z0-9_.]+)[ \t]*=[ \t]*(.*)", re.IGNORECASE)
_EXTENT_LINE = re.compile(
    r"(RW|RDONLY|NOACCESS)[ \t]+([0-9]{1,19})[ \t]+([A-Z]+)"  # access, sectors, type
    r'(?:[ \t]+"([^"]*)"(?:[ \t]+([0-9]{1,19}))?)?',  # file name, offset: ZERO has neither
    re.IGNORECASE,
)
_CID = re.compile(rf"[0-9A-Fa-f]{{1,{CID_DIGITS}}}")
_LONG_CONTENT_ID = re.compile(rf"[0-9a-f]{{{LONG_CONTENT_ID_DIGITS}}}")
# A colon would make QEMU take a parent's name for a protocol (nbd:, json:), a separator for a path.
_NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f"/\\:]')

# What is written: the extent's type, and its offset, which QEMU wants for one and refuses for rest.
_EXTENTS: dict[str, tuple[str, int | None]] = {
    CREATE_TYPE_MONOLITHIC_SPARSE: (EXTENT_TYPE_SPARSE, None),
    CREATE_TYPE_STREAM_OPTIMIZED: (EXTENT_TYPE_SPARSE, None),
    CREATE_TYPE_MONOLITHIC_FLAT: (EXTENT_TYPE_FLAT, 0),
    CREATE_TYPE_VMFS: (EXTENT_TYPE_VMFS, None),
    CREATE_TYPE_VMFS_SPARSE: (EXTENT_TYPE_VMFS_SPARSE, None),
}


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The link below: its CID, and the name of its file in the same folder."""

    cid: int
    file_name: str


@dataclass(frozen=True, slots=True)
class Extent:
    """A region of the disk and the file that holds it. `offset` (sectors) is for flat extents."""

    access: str
    sectors: int
    kind: str
    file_name: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """Cylinders, heads and sectors as a BIOS is told; nothing else uses them."""

    cylinders: int
    heads: int
    sectors: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says: `ddb` has the disk data base's keys without their prefix `ddb.`.

    In a parsed one `parent.file_name` is whatever the file had, unchecked.
    """

    cid: int
    create_type: str
    extents: tuple[Extent, ...]
    parent: ParentRef | None = None
    ddb: tuple[tuple[str, str], ...] = field(default=())

    @property
    def capacity_bytes(self) -> int:
        """Return the size of the disk, the sum of its extents."""
        return sum(extent.sectors for extent in self.extents) * SECTOR

    @property
    def long_content_id(self) -> str | None:
        """Return the 32 digits of ddb.longContentID, or None where there are none."""
        return dict(self.ddb).get("longContentID")


def geometry(capacity_bytes: int) -> Geometry:
    """Return the geometry that VMware's tools give a SCSI disk (source: open-vmdk)."""
    cylinder = GEOMETRY_HEADS * GEOMETRY_SECTORS
    cylinders = -(-(capacity_bytes // SECTOR) // cylinder)
    return Geometry(min(cylinders, GEOMETRY_CYLINDERS_MAX), GEOMETRY_HEADS, GEOMETRY_SECTORS)


def disk_data_base(
    capacity_bytes: int, long_content_id: str | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the `ddb` keys of a SCSI disk of ours, in the order in which they are written."""
    bios = geometry(capacity_bytes)
    rows = [
        ("adapterType", ADAPTER_LSILOGIC),
        ("geometry.cylinders", str(bios.cylinders)),
        ("geometry.heads", str(bios.heads)),
        ("geometry.sectors", str(bios.sectors)),
    ]
    if long_content_id is not None:
        rows.append(("longContentID", long_content_id))
    rows.append(("virtualHWVersion", VIRTUAL_HW_VERSION))
    return tuple(rows)


def link_descriptor(
    capacity_bytes: int,
    *,
    cid: int,
    long_content_id: str,
    parent: ParentRef | None,
    file_name: str,
    create_type: str = CREATE_TYPE_MONOLITHIC_SPARSE,
) -> Descriptor:
    """Return the descriptor of a read-only link of ours, which has one extent.

    `file_name` is the extent's: the link's own, where the descriptor is embedded.
    """
    kind, offset = _EXTENTS[create_type]
    extent = Extent(EXTENT_ACCESS_RW, capacity_bytes // SECTOR, kind, file_name, offset)
    ddb = disk_data_base(capacity_bytes, long_content_id)
    return Descriptor(cid, create_type, (extent,), parent, ddb)


def check_content_id(cid: int, long_content_id: str | None = None) -> None:
    """Raise ValueError unless `cid` may be a link's CID and `long_content_id` goes with it."""
    if not 0 <= cid < CID_LONG_ID_ONLY:
        raise ValueError(f"CID {cid:#x} is reserved or has more than 32 bits")
    if long_content_id is None:
        return
    if not _LONG_CONTENT_ID.fullmatch(long_content_id) or not long_content_id.endswith(
        f"{cid:08x}"
    ):
        raise ValueError(f"long content ID {long_content_id!r} for CID {cid:08x}")


def file_name_fault(name: str) -> str | None:
    """Say why `name` cannot name a link in the folder of the descriptor; None if it can."""
    if name in ("", ".", ".."):
        return "it names no file"
    if _NOT_IN_FILE_NAMES.search(name):
        return 'it has a control character or one of " / \\ :'
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if size > FILE_NAME_BYTES_MAX:
        return f"it has {size} bytes, more than {FILE_NAME_BYTES_MAX}"
    return None


def render(descriptor: Descriptor) -> bytes:
    """Return the text of `descriptor`. Raises UsageError for file names that it cannot hold."""
    names = [extent.file_name for extent in descriptor.extents]
    parent = descriptor.parent
    if parent is not None:
        names.append(parent.file_name)
    for name in names:
        if fault := file_name_fault(name):
            raise UsageError(
                f"A VMDK descriptor cannot name the file {name!r}: {fault}.",
                expected="a plain file name",
            )
    lines = [
        DESCRIPTOR_SIGNATURE,
        f"version={DESCRIPTOR_VERSION}",
        f'encoding="{DESCRIPTOR_ENCODING}"',
        f"CID={descriptor.cid:08x}",
        f"parentCID={CID_NOPARENT if parent is None else parent.cid:08x}",
        f'createType="{descriptor.create_type}"',
    ]
    if parent is not None:
        lines.append(f'parentFileNameHint="{parent.file_name}"')
    lines += ["", "# Extent description"]
    for extent in descriptor.extents:
        offset = "" if extent.offset is None else f" {extent.offset}"
        lines.append(f'{extent.access} {extent.sectors} {extent.kind} "{extent.file_name}"{offset}')
    lines += ["", "# The Disk Data Base", "#DDB", ""]
    lines += [f'ddb.{key} = "{value}"' for key, value in descriptor.ddb]
    return "\n".join([*lines, ""]).encode()


def parse(data: bytes, source: str) -> Descriptor:
    """Parse a descriptor; the text ends at the first zero byte, if there is one.

    `source` names the file in errors. Keys and values that we have no use for are passed over; one
    that stands twice is refused, for QEMU would take the first and others the last. Raises
    IntegrityError for everything that is no descriptor.
    """
    text = data.partition(b"\0")[0]
    if len(text) > DESCRIPTOR_SIZE_MAX * SECTOR:
        _fail(source, f"has {len(text)} bytes")
    try:
        lines = text.decode(DESCRIPTOR_ENCODING).split("\n", _LINES_MAX)
    except UnicodeDecodeError as error:
        raise IntegrityError(f"The VMDK descriptor of {source} is not UTF-8: {error}.") from error
    if len(lines) > _LINES_MAX:
        _fail(source, f"has more than {_LINES_MAX} lines")
    header: dict[str, str] = {}
    ddb: dict[str, str] = {}
    extents = []
    for raw in lines:
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        if found := _EXTENT_LINE.fullmatch(line):
            access, sectors, kind, name, offset = found.groups()
            extents.append(
                Extent(
                    access.upper(),
                    int(sectors),
                    kind.upper(),
                    name or "",
                    None if offset is None else int(offset),
                )
            )
            continue
        if found := _DDB_LINE.fullmatch(line):
            rows, key = ddb, found[1][len("ddb.") :]
        elif found := _HEADER_LINE.fullmatch(line):
            rows, key = header, found[1].lower()
        else:
            _fail(source, f"has the line {line[:80]!r}")
        if key in rows:
            _fail(source, f"has {key} twice")
        rows[key] = _unquoted(found[2], source)
    return _assemble(header, tuple(extents), tuple(ddb.items()), source)


def _assemble(
    header: dict[str, str],
    extents: tuple[Extent, ...],
    ddb: tuple[tuple[str, str], ...],
    source: str,
) -> Descriptor:
    for key in ("version", "cid", "createtype"):
        if key not in header:
            _fail(source, f"has no {key}")
    if header["version"] != str(DESCRIPTOR_VERSION):
        _fail(source, f"is of version {header['version'][:20]}")
    if not extents:
        _fail(source, "has no extent")
    parent_cid = _content_id(header.get("parentcid", f"{CID_NOPARENT:x}"), source)
    hint = header.get("parentfilenamehint")
    parent = None
    if parent_cid != CID_NOPARENT:
        if not hint:
            _fail(source, "has a parentCID and no parentFileNameHint")
        parent = ParentRef(parent_cid, hint)
    elif hint is not None:
        # QEMU would open that parent, a reader that looks at the CID would not.
        _fail(source, "has a parentFileNameHint and no parentCID")
    cid = _content_id(header["cid"], source)
    return Descriptor(cid, header["createtype"], extents, parent, ddb)


def _unquoted(value: str, source: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if '"' in value:
        _fail(source, f"has a stray quote in {value[:80]!r}")
    return value


def _content_id(digits: str, source: str) -> int:
    if not _CID.fullmatch(digits):
        _fail(source, f"has the content ID {digits[:20]!r}")
    return int(digits, 16)


def _fail(source: str, what: str) -> NoReturn:
    raise IntegrityError(f"The VMDK descriptor of {source} {what}.")
