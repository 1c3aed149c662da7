"""Files and folders that are whole or absent: temp beside, fsync, rename. Imports nothing of ours.

A crash at any instant leaves either no final name or the complete file. Temps are named
`.tmp-<pid>-<n>-<name>`, so that a later run recognises those of dead processes. What returned is
durable, if the folder is: folders are to be made with `make_directory`.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

TEMP_PREFIX = ".tmp-"
ABANDONED_SECONDS = 3600
_TEMP_NAME = re.compile(rf"{re.escape(TEMP_PREFIX)}(\d+)-")
_serial = itertools.count()
_WRITEBACK_BYTES = 8 << 20


class EagerFile(FileIO):
    """Lets the kernel write out what is there while more comes, so that fsync has little to do."""

    _begun = 0  # up to where writing out has begun

    def write(self, data: Buffer, /) -> int:
        count = super().write(data)
        end = self.tell()
        if end - self._begun >= _WRITEBACK_BYTES:
            # Begins to write dirty pages and does not wait; pages that are dirty are not dropped.
            os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
        return count


class AtomicFile:
    """A file in the making: unbuffered and seekable, nameless until `commit`.

    `temp` is its name until then. `mode` is exact: the umask does not change it. All methods raise
    OSError.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        """Create the temp beside `path`."""
        self.path = path
        self._mode = mode
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            self.temp = temp_name(path)
            # A dead process may have had our id: in a container many have the same.
            with suppress(FileExistsError):
                self.file = EagerFile(os.open(self.temp, flags, 0o600), "r+")
                break

    def commit(self) -> None:
        """Make data and name durable, the data first."""
        with self.file:
            os.fchmod(self.file.fileno(), self._mode)
            os.fsync(self.file.fileno())
        self.temp.rename(self.path)
        sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the temp; `path` is untouched. May be called at any time, even twice."""
        self.file.close()
        with suppress(FileNotFoundError):
            self.temp.unlink()


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield an unbuffered, seekable file that gets its name `path` only if the block succeeds.

    `mode` is exact. Raises OSError; on any error `path` is as it was.
    """
    pending = AtomicFile(path, mode=mode)
    try:
        yield pending.file
        pending.commit()
    except BaseException:
        pending.discard()
        raise


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make `path` hold exactly `data`, or leave it as it was. Raises OSError."""
    with atomic_file(path, mode=mode) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def temp_name(path: Path) -> Path:
    """Return another temporary name beside `path` at each call; something may have it already."""
    return path.with_name(f"{TEMP_PREFIX}{os.getpid()}-{next(_serial)}-{path.name}")


def temp_directory(path: Path) -> Path:
    """Make and return a folder with a temporary name beside `path`. Raises OSError."""
    while True:
        temp = temp_name(path)
        with suppress(FileExistsError):  # as above
            temp.mkdir()
            return temp


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` only if the block succeeds.

    The block makes durable what it writes there. Raises OSError; what else `place_directory` says
    holds here too.
    """
    temp = temp_directory(path)
    try:
        yield temp
        place_directory(temp, path)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def place_directory(temp: Path, path: Path) -> None:
    """Give the complete folder `temp` the name `path`, and make that durable. Raises OSError.

    A folder that has the name goes when that has worked. Power that fails between the two renames
    of a replacement leaves both whole under temporary names.
    """
    old = None
    try:
        if path.exists():
            old = _set_aside(path)
        temp.rename(path)
    except BaseException:
        if old is not None and not path.exists():
            old.rename(path)
        raise
    sync_directory(path.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _set_aside(path: Path) -> Path:
    """Give the folder `path` a temporary name, and return it."""
    while True:
        old = temp_name(path)
        if not old.exists():
            return path.rename(old)


def remove_abandoned(path: Path) -> None:
    """Remove the folders that processes left that died while they made or replaced `path`."""
    name = re.compile(rf"{_TEMP_NAME.pattern}\d+-{re.escape(path.name)}")
    now = time.time()
    for found in path.parent.iterdir():
        if name.fullmatch(found.name) and found.is_dir() and is_abandoned(found, now):
            shutil.rmtree(found, ignore_errors=True)


def is_abandoned(temp: Path, now: float) -> bool:
    """Say whether nobody will finish `temp`, a name of ours, which may be gone meanwhile.

    A process on another host, or in a container, has an id that says nothing here: what is younger
    than ABANDONED_SECONDS at `now`, in seconds since the epoch, is left alone too.
    """
    match = _TEMP_NAME.match(temp.name)
    if match is None:
        return True
    with suppress(FileNotFoundError):
        return not _is_alive(int(match[1])) and now - temp.lstat().st_mtime > ABANDONED_SECONDS
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no process id at all
        return True
    return True


def make_directory(path: Path) -> None:
    """Make the folder `path` and those above it, if they are missing, and their names durable.

    Raises OSError.
    """
    try:
        path.mkdir()
    except FileNotFoundError:
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
    except OSError:
        if path.is_dir():  # then the error may be another one than that
            return
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in folder `path` durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
