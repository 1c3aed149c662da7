"""Tar archives as places where images lie. Owns how one is opened, not what its members mean.

Nothing is ever extracted. An uncompressed file is read in place, each member as a window on it.
What cannot be read at any place (a pipe, standard input, a compressed file) is first copied,
uncompressed, into one anonymous file: it has no name, so nothing is left of it however we end.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from converter.atomic import TEMP_PREFIX
from converter.errors import IntegrityError, NotFoundError, SaltflatError, UsageError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.image.archive_members import Member, follow, read_members
from converter.image.files import Content
from converter.layer.compression import HEAD_BYTES, Compression, decompress, recognise
from converter.layer.limits import DEFAULT_LIMITS, RATIO_FREE_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_STANDARD_INPUT = 0
_READ_BYTES = 256 << 10
_ADVANCE_BYTES = 1 << 20  # of progress between two events


class Archive:
    """The members of an open archive by their names."""

    kind = "an archive"

    def __init__(self, place: str, descriptor: int, members: Mapping[str, Member]) -> None:
        self.place = place
        self._descriptor = descriptor
        self._members = members

    def find(self, name: str) -> Content | None:
        """Return the file `name`, through links, or None. Raises IntegrityError for bad links."""
        member = follow(self._members, name, what=self.place)
        if member is None:
            return None
        place = (self._descriptor, member.offset_bytes, member.size_bytes)
        return Content(member.size_bytes, lambda: cast("BinaryIO", _Window(*place)))


@contextmanager
def open_archive(path: Path | None, *, spool: Path | None, monitor: Monitor) -> Iterator[Archive]:
    """Yield the archive in the file `path`, or on standard input if that is None.

    `spool` is the folder for a copy where one is needed, None for
    the system's folder of temporary files. Raises NotFoundError, UsageError, OSError,
    IntegrityError for what is not a sound tar archive, and SaltflatError if there is no room for
    the copy.
    """
    place = "Standard input" if path is None else str(path)
    with ExitStack() as stack:
        file = stack.enter_context(_open(path))
        if not _is_plain_file(file, place):
            step = "read standard input" if path is None else f"read {path}"
            source = _Counted(file, step, monitor)
            file = stack.enter_context(_spooled(source, place, spool))
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes == 0:
            raise IntegrityError(f"{place} is empty.", expected="a tar archive")
        descriptor = file.fileno()
        members = read_members(
            lambda offset, size: os.pread(descriptor, size, offset), size_bytes, what=place
        )
        yield Archive(place, descriptor, members)


class _Window(RawIOBase):
    """A part of a file as a file, for one reader; others read the same descriptor beside it."""

    def __init__(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._start = self._position = offset_bytes
        self._end = offset_bytes + size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        wanted = memoryview(buffer)[: self._end - self._position]
        taken = os.preadv(self._descriptor, [wanted], self._position)
        self._position += taken
        return taken

    def tell(self) -> int:
        return self._position - self._start


def _open(path: Path | None) -> BinaryIO:
    if path is None:
        if os.isatty(_STANDARD_INPUT):
            raise UsageError(
                "Standard input is a terminal, not an archive.",
                hint="Pipe one in: docker save IMAGE | saltflat convert docker-archive:-",
            )
        return open(_STANDARD_INPUT, "rb", buffering=0, closefd=False)
    try:
        return open(path, "rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path} does not exist.", expected="an image archive") from None
    except IsADirectoryError:
        raise UsageError(
            f"{path} is a folder.",
            expected="an image archive",
            hint=f"If it is an OCI image layout, name it oci:{path}.",
        ) from None


def _is_plain_file(file: BinaryIO, place: str) -> bool:
    """Tell whether `file` is an uncompressed archive that can be read at any place."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or file.tell() != 0:
        return False
    head = os.pread(file.fileno(), HEAD_BYTES, 0)
    return recognise(head, place) is Compression.NONE


@contextmanager
def _spooled(source: _Counted, place: str, folder: Path | None) -> Iterator[BinaryIO]:
    """Yield an anonymous file with all that `source` has to give, uncompressed."""
    prefix = f"{TEMP_PREFIX}{os.getpid()}-"  # where the system cannot do without a name at first
    with tempfile.TemporaryFile(dir=folder, prefix=prefix, buffering=0) as copy:
        written = 0
        for chunk in decompress(source, place):
            written += len(chunk)
            _check_ratio(place, source.done_bytes, written)
            _write(copy, chunk, place)
        source.finish(f"{written / 1e6:.1f} MB")
        yield copy


class _Counted:
    """The chunks of a file, as a step of which the monitor is told."""

    def __init__(self, file: BinaryIO, step: str, monitor: Monitor) -> None:
        self.done_bytes = 0
        self._file = file
        self._step = step
        self._monitor = monitor
        status = os.fstat(file.fileno())
        monitor(StepStarted(step, status.st_size if stat.S_ISREG(status.st_mode) else None))

    def __iter__(self) -> Iterator[bytes]:
        told = 0
        while chunk := self._file.read(_READ_BYTES):
            self.done_bytes += len(chunk)
            if self.done_bytes - told >= _ADVANCE_BYTES:
                told = self.done_bytes
                self._monitor(StepAdvanced(self._step, self.done_bytes))
            yield chunk

    def finish(self, summary: str) -> None:
        """Tell the monitor that it is done."""
        self._monitor(StepFinished(self._step, summary))


def _check_ratio(place: str, read_bytes: int, written_bytes: int) -> None:
    limit = max(RATIO_FREE_BYTES, DEFAULT_LIMITS.max_ratio * read_bytes)
    if written_bytes > limit:
        raise IntegrityError(
            f"{place} unpacks to more than {limit} bytes within its first {read_bytes}.",
            expected=f"at most {DEFAULT_LIMITS.max_ratio} times as much",
            hint="If you trust it, unpack it yourself and name the uncompressed file.",
        )


def _write(copy: BinaryIO, chunk: bytes, place: str) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[copy.write(view) :]
    except OSError as error:
        raise SaltflatError(
            f"{place} could not be unpacked: {error.strerror}.",
            expected="room for it without compression, in the store or else in $TMPDIR",
            hint="An uncompressed archive that is a file needs none: it is read in place.",
        ) from error
