"""Read one link: a descriptor and the extents that it names. Owns which kinds make up which link.

A link may come from anywhere, so it is hostile until checked: headers, descriptor and directories
when the link is opened, each table entry when it is used. What is wrong raises IntegrityError that
names file and fault. An extent's file stands beside its descriptor and nowhere else: a name with a
path in it, or a symbolic link under it, could make a stranger's disk show files of the host.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import NoReturn, Self

from converter.errors import IntegrityError, NotFoundError
from converter.vmdk import c_vmdk as c
from converter.vmdk.c_cowd import COWD_MAGICNUMBER
from converter.vmdk.compressed import CompressedExtent
from converter.vmdk.cowd import CowdExtent
from converter.vmdk.descriptor import Descriptor, Extent, file_name_fault, parse
from converter.vmdk.disk_file import DiskFile, open_disk_file
from converter.vmdk.extent import ExtentReader, Kind, Piece
from converter.vmdk.flat import FlatExtent, ZeroExtent
from converter.vmdk.header import is_compressed
from converter.vmdk.hosted import SparseExtent, read_header
from converter.vmdk.sesparse import SeSparseExtent

__all__ = ["Kind", "Link", "Piece", "read_link", "read_sparse_link"]

CAPACITY_MAX = 1 << 37  # sectors, 64 TiB; ours: more than any disk of vSphere
_TEXT_BYTES_MAX = c.DESCRIPTOR_SIZE_MAX * c.SECTOR

_EMBEDDED = frozenset({c.CREATE_TYPE_MONOLITHIC_SPARSE, c.CREATE_TYPE_STREAM_OPTIMIZED})
_SPARSE = frozenset({c.EXTENT_TYPE_SPARSE})
_FLAT = frozenset({c.EXTENT_TYPE_FLAT})
_VMFS = frozenset({c.EXTENT_TYPE_VMFS})
# What a descriptor of its own file may name, beside ZERO.
_EXTENT_TYPES = {
    c.CREATE_TYPE_TWO_GB_SPARSE: _SPARSE,
    c.CREATE_TYPE_TWO_GB_FLAT: _FLAT,
    c.CREATE_TYPE_MONOLITHIC_FLAT: _FLAT,
    c.CREATE_TYPE_VMFS: _VMFS,
    c.CREATE_TYPE_VMFS_THIN: _VMFS,
    c.CREATE_TYPE_VMFS_PREALLOCATED: _VMFS,
    c.CREATE_TYPE_VMFS_ZEROED_THICK: _VMFS,
    c.CREATE_TYPE_VMFS_SPARSE: frozenset({c.EXTENT_TYPE_VMFS_SPARSE}),
    c.CREATE_TYPE_SE_SPARSE: frozenset({c.EXTENT_TYPE_SE_SPARSE}),
    c.CREATE_TYPE_VMFS_SE_SPARSE: frozenset({c.EXTENT_TYPE_SE_SPARSE}),
    c.CREATE_TYPE_CUSTOM: _SPARSE | _FLAT | _VMFS,
}


class Link:
    """An open link; a context manager that owns all its files."""

    def __init__(
        self, file: DiskFile, descriptor: Descriptor, extents: tuple[ExtentReader, ...]
    ) -> None:
        """Take over `file`, which holds the descriptor, and what that names; use `read_link`."""
        self.path = file.path
        self.file = file
        self.descriptor = descriptor
        self.extents = extents
        self._begins = [0, *accumulate(extent.capacity_bytes for extent in extents)]
        self.capacity_bytes = self._begins.pop()
        self.grain_bytes = min(extent.grain_bytes for extent in extents)

    def __enter__(self) -> Self:
        """Return the link itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files; a second time does nothing."""
        self.file.close()
        for extent in self.extents:
            extent.close()

    @property
    def file_id(self) -> tuple[int, int]:
        """Return device and inode of the file that has the descriptor."""
        return self.file.file_id

    def fail(self, fault: str) -> NoReturn:
        """Raise IntegrityError for this link: `fault` is a clause about `it`."""
        self.file.fail(fault)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Tell where the bytes [offset, offset + length) of the disk are: in order, without gaps.

        Neighbours that lie together in one extent's file come as one. Raises ValueError beyond the
        capacity, IntegrityError for a table entry that may not be.
        """
        if len(self.extents) == 1:
            yield from self.extents[0].pieces(offset, length)
            return
        end = offset + length
        if not 0 <= offset <= end <= self.capacity_bytes:
            raise ValueError(f"{length} bytes at {offset}: not within {self.capacity_bytes}")
        while offset < end:
            extent, begin = self._extent_at(offset)
            size = min(end, begin + extent.capacity_bytes) - offset
            for piece in extent.pieces(offset - begin, size):
                yield piece._replace(offset=piece.offset + begin)
            offset += size

    def read_data(self, piece: Piece, view: memoryview) -> None:
        """Fill `view` with a DATA piece that `pieces` told. Raises IntegrityError, OSError."""
        if len(self.extents) == 1:
            self.extents[0].read_data(piece, view)
            return
        extent, begin = self._extent_at(piece.offset)
        extent.read_data(piece._replace(offset=piece.offset - begin), view)

    def sparse_extent(self) -> SparseExtent:
        """Return the one extent of a monolithicSparse link as we write it.

        Raises IntegrityError for every other kind of link, also for a sound one.
        """
        (extent, *others) = self.extents
        if others or not isinstance(extent, SparseExtent) or extent.file is not self.file:
            self.fail(f"its type is {self.descriptor.create_type[:40]!r}, not monolithicSparse")
        if isinstance(extent, CompressedExtent):
            self.fail("it is streamOptimized")
        header = extent.header
        if header.version not in {c.SPARSE_VERSION_PLAIN, c.SPARSE_VERSION_MAGIC_GTE}:
            self.fail(f"its version is {header.version}")
        if not c.GRAIN_SIZE_MIN <= header.grainSize <= c.GRAIN_SIZE_MAX:
            self.fail(f"its grains have {header.grainSize} sectors")
        return extent

    def _extent_at(self, offset: int) -> tuple[ExtentReader, int]:
        """Return the extent that has the byte at `offset`, and where it begins."""
        at = bisect_right(self._begins, offset) - 1
        return self.extents[at], self._begins[at]


def read_link(path: Path, *, follow_symlink: bool = True) -> Link:
    """Open the link at `path`, of any kind, and check all but its table entries.

    Raises NotFoundError, IntegrityError for what is not a sound link, OSError.
    """
    with ExitStack() as opened:
        file = open_disk_file(path, follow_symlink=follow_symlink)
        opened.callback(file.close)
        head = file.read_at(0, min(file.size_bytes, c.SECTOR))
        if head.startswith(c.SPARSE_MAGICNUMBER):
            link = _read_embedded(file)
        elif head.lstrip().startswith(b"#"):
            link = _read_named(file, opened)
        else:
            file.require_whole_sectors()
            if head.startswith(COWD_MAGICNUMBER):
                file.fail("it is an ESX redo log (COWD), whose descriptor is another file")
            file.fail("it does not begin with a sparse extent header, nor as a descriptor")
        opened.pop_all()
        return link


def read_sparse_link(path: Path) -> Link:
    """Open the link at `path` and require it to be monolithicSparse, as a store's links are.

    Raises as `read_link` does.
    """
    link = read_link(path)
    try:
        link.sparse_extent()
    except BaseException:
        link.close()
        raise
    return link


def _read_embedded(file: DiskFile) -> Link:
    """Read a link whose descriptor stands in its one extent."""
    header = read_header(file, embeds_descriptor=True)
    extent = (CompressedExtent if is_compressed(header) else SparseExtent)(file, header)
    text = file.read_at(header.descriptorOffset * c.SECTOR, header.descriptorSize * c.SECTOR)
    descriptor = parse(text, os.fspath(file.path))
    wanted = (
        c.CREATE_TYPE_STREAM_OPTIMIZED if is_compressed(header) else c.CREATE_TYPE_MONOLITHIC_SPARSE
    )
    if descriptor.create_type != wanted:
        file.fail(f"its type is {descriptor.create_type[:40]!r}, not {wanted}")
    if len(descriptor.extents) != 1 or descriptor.extents[0].kind != c.EXTENT_TYPE_SPARSE:
        file.fail("its descriptor has other extents than one sparse one")
    if descriptor.capacity_bytes != extent.capacity_bytes:
        file.fail(
            f"its descriptor says {descriptor.capacity_bytes} bytes of capacity, "
            f"its header {extent.capacity_bytes}"
        )
    return Link(file, descriptor, (extent,))


def _read_named(file: DiskFile, opened: ExitStack) -> Link:
    """Read a link whose descriptor is a file of its own. `opened` closes what it opens."""
    if file.size_bytes > _TEXT_BYTES_MAX:
        file.fail(f"its descriptor has {file.size_bytes} bytes")
    descriptor = parse(file.read_at(0, file.size_bytes), os.fspath(file.path))
    kinds = _EXTENT_TYPES.get(descriptor.create_type)
    if kinds is None:
        known = " and embedded" if descriptor.create_type in _EMBEDDED else ""
        file.fail(f"its type is {descriptor.create_type[:40]!r}, no kind of its own file{known}")
    if not 0 < descriptor.capacity_bytes <= CAPACITY_MAX * c.SECTOR:
        file.fail(f"its descriptor says {descriptor.capacity_bytes} bytes of capacity")
    files = _Neighbours(file, opened)
    extents = []
    for row in descriptor.extents:
        if row.access not in {c.EXTENT_ACCESS_RW, c.EXTENT_ACCESS_RDONLY}:
            file.fail(f"its descriptor has an extent of access {row.access}")
        if not row.sectors:
            file.fail("its descriptor has an extent of no size")
        if row.kind != c.EXTENT_TYPE_ZERO and row.kind not in kinds:
            file.fail(f"its descriptor has a {row.kind[:20]} extent in {descriptor.create_type}")
        extents.append(_OPENERS[row.kind](files, row))
    return Link(file, descriptor, tuple(extents))


class _Neighbours:
    """The files beside a descriptor, each opened once."""

    def __init__(self, beside: DiskFile, opened: ExitStack) -> None:
        self.beside = beside
        self._opened = opened
        self._files: dict[str, DiskFile] = {}
        self._alone: set[tuple[int, int]] = set()

    def shared(self, name: str) -> DiskFile:
        """Return the file `name`, which several extents may have parts of."""
        if name not in self._files:
            self._files[name] = self._open(name)
        return self._files[name]

    def alone(self, name: str) -> DiskFile:
        """Return the file `name`, which is this extent's alone."""
        file = self.shared(name)
        if file.file_id in self._alone:
            self.beside.fail(f"two of its extents are in {name!r}")
        self._alone.add(file.file_id)
        return file

    def _open(self, name: str) -> DiskFile:
        if fault := file_name_fault(name):
            self.beside.fail(f"its extent {name[:80]!r} is no file beside it: {fault}")
        path = self.beside.path.parent / name
        try:
            file = open_disk_file(path, follow_symlink=False)
        except NotFoundError as error:
            raise IntegrityError(
                f"{self.beside.path} has lost an extent.",
                expected=f"{path}",
                hint="A descriptor is of no use without the files that it names.",
            ) from error
        self._opened.callback(file.close)
        return file


def _open_sparse(files: _Neighbours, row: Extent) -> ExtentReader:
    file = files.alone(_name(files, row))
    header = read_header(file, embeds_descriptor=False)
    extent = (CompressedExtent if is_compressed(header) else SparseExtent)(file, header)
    return _of_size(files, row, extent)


def _open_cowd(files: _Neighbours, row: Extent) -> ExtentReader:
    return _of_size(files, row, CowdExtent(files.alone(_name(files, row))))


def _open_sesparse(files: _Neighbours, row: Extent) -> ExtentReader:
    return _of_size(files, row, SeSparseExtent(files.alone(_name(files, row))))


def _open_flat(files: _Neighbours, row: Extent) -> ExtentReader:
    return FlatExtent(files.shared(row.file_name), offset=row.offset or 0, sectors=row.sectors)


def _open_vmfs(files: _Neighbours, row: Extent) -> ExtentReader:
    return FlatExtent(files.shared(_name(files, row)), offset=0, sectors=row.sectors)


def _open_zero(files: _Neighbours, row: Extent) -> ExtentReader:
    return ZeroExtent(row.sectors)


_OPENERS: dict[str, Callable[[_Neighbours, Extent], ExtentReader]] = {
    c.EXTENT_TYPE_SPARSE: _open_sparse,
    c.EXTENT_TYPE_VMFS_SPARSE: _open_cowd,
    c.EXTENT_TYPE_SE_SPARSE: _open_sesparse,
    c.EXTENT_TYPE_FLAT: _open_flat,
    c.EXTENT_TYPE_VMFS: _open_vmfs,
    c.EXTENT_TYPE_ZERO: _open_zero,
}


def _name(files: _Neighbours, row: Extent) -> str:
    """Return the file's name of an extent that begins at its file's beginning."""
    if row.offset:
        files.beside.fail(f"its {row.kind} extent begins at sector {row.offset} of its file")
    return row.file_name


def _of_size(files: _Neighbours, row: Extent, extent: ExtentReader) -> ExtentReader:
    if extent.capacity_bytes != row.sectors * c.SECTOR:
        files.beside.fail(
            f"its descriptor says {row.sectors * c.SECTOR} bytes of {row.file_name}, "
            f"whose header says {extent.capacity_bytes}"
        )
    return extent
