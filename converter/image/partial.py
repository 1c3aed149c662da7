"""A blob on its way into a folder of blobs. Owns its temporary name, its lock, its running hash.

The temporary file is its own lock: whoever holds flock(2) on it may write, and the kernel lets go
for those who die. So several processes that want one blob take turns, and each goes on where the
one before it stopped, or finds the blob finished. The bytes of a stranger are hashed again first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from converter.atomic import TEMP_PREFIX, EagerFile, sync_directory
from converter.errors import IntegrityError, UnavailableError
from converter.events import Monitor, Note, StepAdvanced
from converter.image.model import Descriptor
from converter.image.verify import Verifier

PARTIAL_PREFIX = f"{TEMP_PREFIX}partial-"
STALL_SECONDS = 900.0  # a holder whose file does not grow for so long is not waited for
_POLL_SECONDS = 0.1
_ADVANCE_BYTES = 1 << 20
_HASH_CHUNK_BYTES = 1 << 20
_MODE = 0o644


class PartialBlob:
    """The bytes of a blob that are here so far: a sink that knows where it is and what it has."""

    def __init__(self, file: FileIO, descriptor: Descriptor, step: str, monitor: Monitor) -> None:
        """Take over `file`, which is locked, with what it holds already."""
        self._file = file
        self._descriptor = descriptor
        self._step = step
        self._monitor = monitor
        self._told_bytes = 0
        self._verifier = Verifier(descriptor)
        if os.fstat(file.fileno()).st_size > descriptor.size_bytes:
            self.restart()
        while chunk := file.read(_HASH_CHUNK_BYTES):
            self._verifier.update(chunk)
            self._tell()

    @property
    def position(self) -> int:
        """How many bytes are here: where the next one belongs."""
        return self._verifier.got_bytes

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises IntegrityError when they are too many, and OSError."""
        self._verifier.update(chunk)
        view = memoryview(chunk)
        while view:  # the file is unbuffered: a write may be short
            view = view[self._file.write(view) :]
        self._tell()

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._verifier = Verifier(self._descriptor)
        self._told_bytes = 0

    def check(self) -> None:
        """Raise IntegrityError unless the blob is whole and right."""
        self._verifier.finish()

    def note(self, text: str) -> None:
        """Tell whoever watches."""
        self._monitor(Note(text))

    def commit(self, path: Path) -> None:
        """Give a blob that is whole and right its final name, durably. Raises IntegrityError."""
        self.check()
        os.fchmod(self._file.fileno(), _MODE)
        os.fsync(self._file.fileno())
        partial_path(path).rename(path)
        sync_directory(path.parent)

    def _tell(self) -> None:
        if self.position - self._told_bytes >= _ADVANCE_BYTES:
            self._told_bytes = self.position
            self._monitor(StepAdvanced(self._step, self.position))


def is_whole(path: Path, size_bytes: int) -> bool:
    """Say whether `path` is a blob of this size. It got its name only after it was verified."""
    return path.is_file() and path.stat().st_size == size_bytes


def partial_path(path: Path) -> Path:
    """Return where a blob grows whose final name is `path`."""
    return path.with_name(f"{PARTIAL_PREFIX}{path.name}")


@contextmanager
def partial_blob(
    path: Path,
    descriptor: Descriptor,
    *,
    step: str,
    monitor: Monitor,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[PartialBlob | None]:
    """Yield the blob as far as it is here, for the caller alone; None if `path` has it by now.

    Waits for another who fetches it. After an error what is here stays for the next one, unless
    it is wrong or nothing at all. Raises UnavailableError when the other one stands still.
    """
    size_bytes = descriptor.size_bytes
    with _locked(path, size_bytes, step, monitor, clock=clock, sleep=sleep) as file:
        if file is None:
            yield None
            return
        partial = PartialBlob(file, descriptor, step, monitor)
        try:
            yield partial
        except IntegrityError:
            _remove(path)
            raise
        except BaseException:
            if not partial.position:
                _remove(path)
            raise


@contextmanager
def _locked(
    path: Path,
    size_bytes: int,
    step: str,
    monitor: Monitor,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[FileIO | None]:
    temp = partial_path(path)
    waited_for = False
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with EagerFile(os.open(temp, flags, 0o600), "r+") as file:
            seen_bytes, deadline = -1, 0.0
            while not _try_lock(file):
                if not waited_for:
                    waited_for = True
                    monitor(Note(f"{step}: another process fetches it, waiting"))
                grown_bytes = os.fstat(file.fileno()).st_size
                if grown_bytes != seen_bytes:
                    seen_bytes, deadline = grown_bytes, clock() + STALL_SECONDS
                    monitor(StepAdvanced(step, grown_bytes))
                elif clock() > deadline:
                    raise UnavailableError(
                        f"Another process holds {temp}, and has fetched nothing for "
                        f"{STALL_SECONDS:.0f} seconds.",
                        hint="See what it does, or end it: the lock goes with it.",
                    )
                sleep(_POLL_SECONDS)
            # The one before us may have given the file its final name, or removed it.
            if _is_at(temp, file):
                if is_whole(path, size_bytes):
                    _remove(path)
                    yield None
                    return
                yield file
                return
            if is_whole(path, size_bytes):
                yield None
                return


def _try_lock(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file.fileno()))


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        partial_path(path).unlink()
