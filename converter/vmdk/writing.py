"""How every disk format is written: pieces in, in the order of the disk, then `finish()`.

Owns that interface, what it checks of a piece, and how bytes get into a file whole. Which formats
there are is said in docs/vmdk.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from converter.vmdk.c_vmdk import SECTOR

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

HOLE_BYTES = 4096  # what file systems can leave out of a file
_HOLE = bytes(HOLE_BYTES)
_SAMPLES = 8  # of each grain


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """What was written: grains with data, grains of zeros that took an entry only, file size."""

    grains: int
    zero_grains: int
    size_bytes: int


class DiskWriter(Protocol):
    """Writes one extent, which is the whole disk as this link knows it."""

    @property
    def grain_bytes(self) -> int:
        """What pieces are made of."""

    def write(self, offset: int, data: Buffer, /) -> None:
        """Write whole grains at byte `offset` of the disk, behind all that were written before.

        What is never written is absent: the parent's, or zeros. The buffer may be used again as
        soon as the call returns. Raises ValueError for what breaks these rules, SaltflatError for
        what the format cannot hold, OSError.
        """

    def finish(self) -> LinkSummary:
        """Write what is left; the file is then complete, but not synced. Raises as `write` does."""


class Ascending:
    """Holds pieces to the rules: whole grains, within the disk, none before one that was there."""

    def __init__(self, capacity_bytes: int, grain_bytes: int) -> None:
        """Begin at offset 0."""
        self._capacity_bytes = capacity_bytes
        self._grain_bytes = grain_bytes
        self._next = 0

    def take(self, offset: int, data: Buffer) -> memoryview:
        """Return `data` as bytes. Raises ValueError for a piece that breaks the rules."""
        view = memoryview(data).cast("B")
        if offset % self._grain_bytes or len(view) % self._grain_bytes:
            raise ValueError(f"{len(view)} bytes at {offset}: not whole grains")
        if offset < self._next or offset + len(view) > self._capacity_bytes:
            raise ValueError(f"{len(view)} bytes at {offset}: not ascending, or beyond the end")
        self._next = offset + len(view)
        return view


def runs(view: memoryview, zero_grain: bytes) -> Iterator[tuple[bool, memoryview]]:
    """Cut `view` where grains of zeros and others meet, and say which are zeros.

    The last grain may be cut.
    """
    grain_bytes = len(zero_grain)
    begin = 0
    zeros = _grains_of_zeros(view, zero_grain)
    for at in zeros:
        if at < begin:
            continue  # of the run before
        if at > begin:
            yield False, view[begin:at]
        end = at + grain_bytes
        while end in zeros:
            end += grain_bytes
        yield True, view[at:end]
        begin = end
    if begin < len(view):
        yield False, view[begin:]


def _grains_of_zeros(view: memoryview, zero_grain: bytes) -> dict[int, None]:
    """Return where in `view` the grains begin that are zeros, in order."""
    grain_bytes = len(zero_grain)
    # One byte of each grain, all grains at once, several times: what was zero each time is looked
    # at as a whole. Going from grain to grain took as long as writing them did.
    seen = 0
    for place in range(0, grain_bytes, max(grain_bytes // _SAMPLES, 1)):
        seen |= int.from_bytes(view[place::grain_bytes], "little")
    samples = seen.to_bytes(-(-len(view) // grain_bytes), "little")  # the last may be cut
    found: dict[int, None] = {}
    number = samples.find(0)
    while number >= 0:
        at = number * grain_bytes
        # bytes.startswith is a memcmp without a copy; comparing memoryviews goes byte by byte.
        if zero_grain.startswith(view[at : at + grain_bytes]):
            found[at] = None
        number = samples.find(0, number + 1)
    return found


def put(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of `data` where the file is; a pipe or an unbuffered file may take less at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def put_at(file: BinaryIO, sector: int, data: bytes | memoryview) -> None:
    """Write `data` at `sector`, but not the blocks of zeros in it: the file is a hole there."""
    at = sector * SECTOR
    for is_zero, run in runs(memoryview(data), _HOLE):
        if not is_zero:
            file.seek(at)
            put(file, run)
        at += len(run)
