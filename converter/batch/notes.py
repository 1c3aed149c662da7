"""Notes on outputs: what was made in which place, so that it is recognised and not made again.

They lie in the store's cache, one for each place, and may be deleted: an output without a note is
as good as a stranger's. A note is written twice, before the output is made and after it. One that
was only begun tells that what lies in the place now, if anything, is ours; one that is done, that
its files are for as long as nobody has touched them, whatever image has that name today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from converter.atomic import make_directory, write_atomic
from converter.store.layout import Store

_FOLDER = "outputs"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file as it was when it was made."""

    path: str
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> MadeFile:
        """Return what is to be known of a file. Raises OSError."""
        found = path.stat()
        return cls(str(path), found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Note:
    """What was made in a place: `identity` follows from all that determines its bytes.

    `digest` is an artifact's, `files` are an export's. It is not `is_done` while it is made.
    """

    identity: str
    is_done: bool
    files: tuple[MadeFile, ...] = ()
    digest: str = ""

    @property
    def is_intact(self) -> bool:
        """Whether the output was finished and its files are as they were."""
        return self.is_done and all(_now(file) == file for file in self.files)

    @property
    def is_ours(self) -> bool:
        """Whether what lies in the place is as a batch left it; files may be gone."""
        return not self.is_done or all(_now(file) in (file, None) for file in self.files)


class Notes:
    """The notes in one store."""

    def __init__(self, store: Store) -> None:
        self._folder = store.cache / _FOLDER

    def read(self, kind: str, place: str) -> Note | None:
        """Return the note on what was made in a place, of whichever identity; None without one."""
        try:
            document = json.loads(self._path(kind, place).read_bytes())
            return Note(
                document["identity"],
                document["is_done"] is True,
                tuple(MadeFile(**file) for file in document["files"]),
                document["digest"],
            )
        except (OSError, ValueError, KeyError, TypeError):  # none, or one that is none of ours
            return None

    def write(self, kind: str, place: str, note: Note) -> None:
        """Put down what is made, or is about to be, in a place. Raises OSError."""
        make_directory(self._folder)
        write_atomic(self._path(kind, place), json.dumps(asdict(note)).encode() + b"\n")

    def _path(self, kind: str, place: str) -> Path:
        return self._folder / f"{identity_of_parts(kind, place)}.json"


def _now(file: MadeFile) -> MadeFile | None:
    """Return what a file is now, None if it is gone, or cannot be looked at."""
    try:
        return MadeFile.of(Path(file.path))
    except OSError:
        return None


def identity_of_parts(*parts: str | bytes | Sequence[str]) -> str:
    """Return 64 hex digits that follow from all of `parts` and their order."""
    hasher = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else json.dumps(part).encode()
        hasher.update(b"%d:" % len(raw) + raw)
    return hasher.hexdigest()
