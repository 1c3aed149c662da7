"""Read Debian packages as data. Owns the way from a .deb to its files' bytes; extracts nothing.

Paths are relative to / and in merged-usr form (`lib/x` is `usr/lib/x`), so that releases before
and after that move look alike.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from converter.errors import IntegrityError, NotFoundError

_MERGED = ("bin", "lib", "lib64", "sbin")
_FILE_LIMIT_BYTES = 64 << 20  # the largest file that we take is a kernel of some 15 MB
_LINK_LIMIT = 8
_COPY_BYTES = 1 << 20
_TIMEOUT_SECONDS = 120

# ar(5): a magic, then for each member a name of 16 characters and a date of 12.
_AR_MAGIC = b"!<arch>\n"
_AR_DATE = len(_AR_MAGIC) + 16
_AR_DATE_END = _AR_DATE + 12


class DebArchive:
    """The files of one package, by path. Made by `open_deb`."""

    def __init__(self, name: str, archive: tarfile.TarFile) -> None:
        self._name = name
        self._archive = archive
        self._members = {merged_path(member.name): member for member in archive}

    def __iter__(self) -> Iterator[str]:
        """Yield every path, in the package's order."""
        return iter(self._members)

    def __contains__(self, path: str) -> bool:
        return path in self._members

    def read(self, path: str) -> bytes:
        """Return the content of the regular file `path`, following links inside the package.

        Raises NotFoundError when there is none, IntegrityError when it is not a file of sane size.
        """
        member = self._file(path)
        if member.size > _FILE_LIMIT_BYTES:
            raise IntegrityError(f"/{path} of package {self._name} is not a file of sane size")
        file = self._archive.extractfile(member)
        assert file is not None, "extractfile gives a reader for every regular file"
        return file.read()

    def link_target(self, path: str) -> str | None:
        """Return where the symbolic link `path` leads, as the package has it; None: it is none."""
        member = self._members.get(path)
        return member.linkname if member is not None and member.issym() else None

    def copy(self, path: str, target: BinaryIO) -> None:
        """Write the content of the regular file `path`, of any size, to `target`.

        Raises as `read` does, and OSError.
        """
        file = self._archive.extractfile(self._file(path))
        assert file is not None, "as above"
        shutil.copyfileobj(file, target, _COPY_BYTES)

    def _file(self, path: str) -> tarfile.TarInfo:
        for _ in range(_LINK_LIMIT):
            member = self._members.get(path)
            if member is None:
                raise NotFoundError(f"Package {self._name} has no file /{path}")
            if member.issym():
                path = merged_path(_join(PurePosixPath(path).parent, member.linkname))
            elif member.islnk():
                path = merged_path(member.linkname)
            else:
                break
        else:
            raise IntegrityError(f"Package {self._name} has a loop of links at /{path}")
        if not member.isreg():
            raise IntegrityError(f"/{path} of package {self._name} is not a file")
        return member


@contextmanager
def open_deb(deb: Path, *, scratch_dir: Path) -> Iterator[DebArchive]:
    """Open the package file `deb` for reading by path.

    Its tar is unpacked to a nameless file in `scratch_dir`: a kernel package has 100 MB, and a
    module's dependencies are known only after it was read. Raises IntegrityError.
    """
    with tempfile.TemporaryFile(dir=scratch_dir) as tar:
        result = _dpkg_deb(["--fsys-tarfile", str(deb)], stdout=tar)
        if result.returncode != 0:
            raise _unreadable(deb, result)
        tar.seek(0)
        try:
            with tarfile.open(fileobj=tar, mode="r:") as archive:
                yield DebArchive(deb.name, archive)
        except tarfile.TarError as error:
            raise IntegrityError(f"{deb.name} holds a damaged tar: {error}") from error


def control_field(deb: Path, field: str) -> str:
    """Return one field of the package's control file, "" when absent. Raises IntegrityError."""
    return control_fields(deb, (field,))[field]


def control_fields(deb: Path, fields: Sequence[str]) -> dict[str, str]:
    """Return fields of the package's control file, "" for absent ones. Raises IntegrityError."""
    # Given one name alone, dpkg-deb would leave the name out of its answer.
    names = dict.fromkeys((*fields, "Package", "Version"))
    result = _dpkg_deb(["--field", str(deb), *names], stdout=subprocess.PIPE)
    if result.returncode != 0:
        raise _unreadable(deb, result)
    found = dict.fromkeys(fields, "")
    field = ""
    for line in result.stdout.decode("utf-8", "replace").splitlines():
        value = line
        if not line.startswith((" ", "\t")):
            field, _, value = line.partition(":")
        if field in found:
            found[field] = f"{found[field]}\n{value}".strip()
    return found


def built_seconds(deb: Path) -> int:
    """Return when the package was built, in Unix time: the date of its first ar member (deb(5)).

    Raises IntegrityError.
    """
    with deb.open("rb") as file:
        begin = file.read(_AR_DATE_END)
    date = begin[_AR_DATE:].decode("ascii", "replace").strip()
    if not begin.startswith(_AR_MAGIC) or not date.isdecimal():
        raise IntegrityError(f"{deb.name} is no Debian package")
    return int(date)


def dependencies(relation: str) -> Iterable[tuple[str, ...]]:
    """Parse a Depends field: yield each clause as its alternatives' package names, in order.

    Versions and architecture qualifiers are dropped: apt picks the versions, and one archive state
    is consistent. Format: Debian Policy 7.1.
    """
    for clause in relation.split(","):
        names = (
            re.split(r"[\s(:\[<]", choice.strip(), maxsplit=1)[0] for choice in clause.split("|")
        )
        alternatives = tuple(name for name in names if name)
        if alternatives:
            yield alternatives


def merged_path(path: str) -> str:
    """Return `path` relative to / and in merged-usr form."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".")]
    if parts and parts[0] in _MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


def _join(parent: PurePosixPath, target: str) -> str:
    if target.startswith("/"):
        return target
    parts = list(parent.parts)
    for part in PurePosixPath(target).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
    return "/".join(parts)


def _dpkg_deb(
    arguments: list[str], *, stdout: IO[bytes] | int
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["dpkg-deb", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NotFoundError(
            "dpkg-deb is not installed", hint="build the boot image on Debian or Ubuntu"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise IntegrityError(f"dpkg-deb did not finish in {_TIMEOUT_SECONDS} s") from error


def _unreadable(deb: Path, result: subprocess.CompletedProcess[bytes]) -> IntegrityError:
    reason = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return IntegrityError(
        f"{deb.name} cannot be read: {reason}", hint="remove it and build again to fetch it anew"
    )
