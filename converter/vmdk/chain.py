"""Read a chain of links as one disk. Owns how links find their parents and which of them answers.

A parent is found by name in its child's folder and nowhere else: a hint with a path in it, or a
symbolic link under its name, could make a stranger's chain show files of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Self

from converter.errors import IntegrityError, NotFoundError
from converter.vmdk.c_vmdk import NUM_GTES_PER_GT
from converter.vmdk.descriptor import ParentRef, file_name_fault
from converter.vmdk.extent import Kind, Piece
from converter.vmdk.reader import Link, read_link

DEPTH_MAX = 64  # vSphere documents 32; a bound against hostile folders, not a promise
EXTENTS_MAX = 1024  # of all links together: likewise, for each may be an open file
_PIECE_BYTES = 1 << 20
_REGION_BYTES = 32 << 20


class Chain:
    """An open chain, `links` base first; a context manager that owns them all."""

    def __init__(self, links: tuple[Link, ...], owner: ExitStack) -> None:
        """Take over `links`, which fit each other, and `owner`, which closes them."""
        self.links = links
        self._owner = owner

    def __enter__(self) -> Self:
        """Return the chain itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close all links."""
        self.close()

    def close(self) -> None:
        """Close all links; a second time does nothing."""
        self._owner.close()

    @property
    def capacity_bytes(self) -> int:
        """Return the size of the disk, the same for every link."""
        return self.links[0].capacity_bytes

    @property
    def grain_bytes(self) -> int:
        """Return the size of the smallest grain: links may differ."""
        return min(link.grain_bytes for link in self.links)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes [offset, offset + length) of the disk; any alignment.

        Raises ValueError beyond the capacity, IntegrityError for a damaged link.
        """
        data = bytearray(length)
        self._read_data(offset, memoryview(data))
        return bytes(data)

    def grains(self) -> Iterator[tuple[int, int]]:
        """Yield (byte offset, index of the link) for each grain of the disk that holds data.

        In order of offsets, in steps of `grain_bytes`; what is not named reads as zeros. Where
        extents begin in the middle of a grain, several links may have parts of one: the lowest
        part's is named. Raises IntegrityError for a damaged link.
        """
        grain_bytes = self.grain_bytes
        region_bytes = grain_bytes * NUM_GTES_PER_GT  # so that memory does not grow with the disk
        told = 0
        for region in range(0, self.capacity_bytes, region_bytes):
            found = self._data(region, min(region_bytes, self.capacity_bytes - region))
            for index, piece in sorted(found, key=lambda each: each[1].offset):
                first = max(piece.offset // grain_bytes * grain_bytes, told)
                told = piece.offset + piece.length
                told += -told % grain_bytes
                for offset in range(first, told, grain_bytes):
                    yield offset, index

    def contents(self, unit_bytes: int) -> Iterator[tuple[int, memoryview]]:
        """Yield what the flattened disk holds, for a writer: (byte offset, whole units), in order.

        What is not yielded reads as zeros; units of zeros may be among what is. Each piece has at
        most 1 MiB, or one unit, and counts until the next one is asked for; at the end of the disk
        the last unit may be cut. Raises IntegrityError for a damaged link.
        """
        done = 0
        for offset, length in self._data_ranges():
            begin = max(offset // unit_bytes * unit_bytes, done)
            end = -(-(offset + length) // unit_bytes) * unit_bytes
            yield from self._units(begin, end, unit_bytes)
            done = max(end, done)

    def changes(self, unit_bytes: int) -> Iterator[tuple[int, memoryview]]:
        """Yield what the topmost link changes, for a writer of such a link: as `contents` does.

        A unit that it changes in part is yielded whole, as the disk has it; units of zeros hide
        what is below. Raises IntegrityError for a damaged link.
        """
        link = self.links[-1]
        region_bytes = max(link.grain_bytes * NUM_GTES_PER_GT, _REGION_BYTES)
        done = 0
        for region in range(0, self.capacity_bytes, region_bytes):
            for piece in link.pieces(region, min(region_bytes, self.capacity_bytes - region)):
                if piece.kind is Kind.ABSENT:
                    continue
                end = -(-(piece.offset + piece.length) // unit_bytes) * unit_bytes
                begin = max(piece.offset // unit_bytes * unit_bytes, done)
                yield from self._units(begin, end, unit_bytes)
                done = max(end, done)

    def _units(self, begin: int, end: int, unit_bytes: int) -> Iterator[tuple[int, memoryview]]:
        """Yield the disk's bytes [begin, end), or up to its end, in pieces as `contents` says."""
        most = max(_PIECE_BYTES // unit_bytes, 1) * unit_bytes
        end = min(end, self.capacity_bytes)
        # One buffer for all, which stays in the processor's cache and is not cleared each time.
        buffer = memoryview(bytearray(min(most, max(end - begin, 0))))
        for offset in range(begin, end, most):
            view = buffer[: min(most, end - offset)]
            self._read_data(offset, view)
            yield offset, view

    def _read_data(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset` on, with zeros where the disk has no data."""
        found = list(self._data(offset, len(view)))
        if sum(piece.length for _, piece in found) < len(view):
            view[:] = bytes(len(view))
        for index, piece in found:
            begin = piece.offset - offset
            self.links[index].read_data(piece, view[begin : begin + piece.length])

    def _data_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield (byte offset, length) of all data, in order, apart from each other."""
        pending_begin = pending_end = 0
        # Piece by piece, so that memory does not grow with the disk.
        region_bytes = max(self.grain_bytes * NUM_GTES_PER_GT, _REGION_BYTES)
        for region in range(0, self.capacity_bytes, region_bytes):
            found = self._data(region, min(region_bytes, self.capacity_bytes - region))
            for begin, end in sorted(
                (piece.offset, piece.offset + piece.length) for _, piece in found
            ):
                if begin == pending_end:
                    pending_end = end
                    continue
                if pending_begin < pending_end:
                    yield pending_begin, pending_end - pending_begin
                pending_begin, pending_end = begin, end
        if pending_begin < pending_end:
            yield pending_begin, pending_end - pending_begin

    def _data(self, offset: int, length: int) -> Iterator[tuple[int, Piece]]:
        """Yield what has data, with the link that answers; in no order. The rest is zeros."""
        wanted = [(offset, length)]
        for index in reversed(range(len(self.links))):
            below = []
            for begin, size in wanted:
                for piece in self.links[index].pieces(begin, size):
                    if piece.kind is Kind.DATA:
                        yield index, piece
                    elif piece.kind is Kind.ABSENT:
                        below.append((piece.offset, piece.length))
            if not below:
                return
            wanted = below


def open_chain(top: Path) -> Chain:
    """Open the link `top` and all links below it, and check that they fit each other.

    Raises NotFoundError, IntegrityError for a damaged link, a parent that is missing, not the one
    that the child was made on, or elsewhere than in the child's folder, OSError.
    """
    with ExitStack() as opened:
        link = opened.enter_context(read_link(top))
        links = [link]
        while (parent := link.descriptor.parent) is not None:
            if len(links) == DEPTH_MAX:
                link.fail(f"its chain has more than {DEPTH_MAX} links")
            link = opened.enter_context(_open_parent(link, parent))
            if any(link.file_id == above.file_id for above in links):
                links[-1].fail("its chain leads back to itself")
            links.append(link)
            if sum(len(each.extents) for each in links) > EXTENTS_MAX:
                link.fail(f"its chain has more than {EXTENTS_MAX} extents")
        for child, below in pairwise(links):
            _check_pair(child, below)
        return Chain(tuple(reversed(links)), opened.pop_all())


def _open_parent(child: Link, parent: ParentRef) -> Link:
    if fault := file_name_fault(parent.file_name):
        child.fail(f"its parent {parent.file_name[:80]!r} is no file beside it: {fault}")
    path = child.path.parent / parent.file_name
    try:
        return read_link(path, follow_symlink=False)
    except NotFoundError as error:
        raise IntegrityError(
            f"{child.path} has lost its parent.",
            expected=f"{path}",
            hint="A link is of no use without all links below it; keep them in one folder.",
        ) from error


def _check_pair(child: Link, below: Link) -> None:
    parent = child.descriptor.parent
    assert parent is not None  # below was found by it
    if parent.cid != below.descriptor.cid:
        child.fail(
            f"it was made on a parent with CID {parent.cid:08x}, "
            f"but {below.path.name} has {below.descriptor.cid:08x}"
        )
    if child.capacity_bytes != below.capacity_bytes:
        child.fail(
            f"it has {child.capacity_bytes} bytes of capacity, "
            f"its parent {below.path.name} {below.capacity_bytes}"
        )
